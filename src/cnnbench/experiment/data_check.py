"""The check of a config's data: `quality`, told what `config.data` says."""

from dataclasses import replace
from typing import NamedTuple

from cnnbench.config.schema import Config
from cnnbench.data import Source, load_source
from cnnbench.data.dataset import PLACE
from cnnbench.experiment.label_suspects import IMAGE_SIZE, find_label_suspects
from cnnbench.experiment.loading import get_data_settings
from cnnbench.quality.checking import check_images
from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding
from cnnbench.quality.images import CheckedImages, compute_key, list_files, read_images
from cnnbench.storage.text import format_percent


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


def add_label_suspects(
    check: DataCheck, images: CheckedImages, config: Config, *, epochs: int | None = None
) -> DataCheck:
    """The check with one more finding: images whose label is probably wrong, the most doubtful first.

    Args:
        images: those of the check.
        config: of the same data, with the network that judges the labels.
        epochs: of each network; None depends on the number of images.

    Raises:
        ValueError: as `find_label_suspects` does.
    """
    config = config.model_copy(deep=True)
    data, settings = config.data, get_data_settings(config)
    if "on_bad_image" in data.options:
        data.options["on_bad_image"] = "skip"  # unreadable files are a finding of their own
        settings["image_size"] = data.image_size or IMAGE_SIZE
    source = load_source(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    names = source.info.class_names
    cases = []
    for one in find_label_suspects(config, source, epochs=epochs):
        image = images.name_image(_find_row(images, source, one.split, one.index))
        own, likeliest = format_percent(one.own_probability, 1), format_percent(one.probability, 1)
        detail = f"looks like {names[one.likeliest]} ({likeliest}), labelled {names[one.label]} ({own})"
        cases.append(Case((image,), (0,), detail, image.label))
    findings = {**check.findings, "label": Finding(len(cases), tuple(cases))}
    return replace(check, findings={kind: findings[kind] for kind in KINDS if kind in findings})


def _find_row(images: CheckedImages, source: Source, split: str, index: int) -> int:
    """The row among the checked images of an image of the source, which has no unreadable ones."""
    if source.paths is None:
        return images.splits[split].start + index
    marks = getattr(source, split).marks
    return int(marks[index, PLACE])


def find_check_key(config: Config) -> str | None:
    """The key that `check_data` would give, without opening a file; None for data that are no image files.

    Raises:
        ValueError: unknown or missing data.
    """
    files = list_files(config.data.name, config.data.options, get_data_settings(config))
    return None if files is None else compute_key(files)
