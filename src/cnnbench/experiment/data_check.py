"""The check of a config's data: `quality`, told what `config.data` says."""

from typing import NamedTuple

from cnnbench.config.schema import Config
from cnnbench.experiment.loading import get_data_settings
from cnnbench.quality.checking import check_images
from cnnbench.quality.findings import DataCheck
from cnnbench.quality.images import CheckedImages, compute_key, list_files, read_images


class Checked(NamedTuple):
    """A check, and the images that it is about."""

    check: DataCheck
    images: CheckedImages


def check_data(config: Config) -> Checked:
    """Check all images of a config's data, in the splits that their source has; `data.exclude` leaves none out.

    Raises:
        ValueError: unknown or missing data.
    """
    data = config.data
    settings = get_data_settings(config)
    images = read_images(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    return Checked(check_images(images), images)


def find_check_key(config: Config) -> str | None:
    """The key that `check_data` would give, without opening a file; None for data that are no image files.

    Raises:
        ValueError: unknown or missing data.
    """
    files = list_files(config.data.name, config.data.options, get_data_settings(config))
    return None if files is None else compute_key(files)
