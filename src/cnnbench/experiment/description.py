"""The shape and classes of a config's data; data of a known shape are not loaded for this."""

from collections.abc import Sequence

from cnnbench.config.schema import Config
from cnnbench.data import DatasetInfo, find_data_shape, to_image_size
from cnnbench.experiment.loading import get_data_settings


def describe_data(
    config: Config,
    *,
    channels: int | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> DatasetInfo:
    """The shape and the number of classes of a config's data.

    Args:
        channels, image_size, num_classes: instead of the data's own; the data are not needed where all are given.

    Raises:
        ValueError: files that are needed and missing.
    """
    if channels and image_size and num_classes:
        shape: tuple[int, ...] = (channels, *image_size)
        classes = num_classes
    else:
        shape, classes = find_data_shape(
            config.data.name, root=config.data.root, options=config.data.options, settings=get_data_settings(config)
        )
    configured = config.data.image_size
    sides = image_size or ([configured] * 2 if isinstance(configured, int) else configured) or shape[1:]
    size = to_image_size(*sides) if len(shape) == 3 else sides[0]
    names = tuple(map(str, range(num_classes or classes)))
    return DatasetInfo(config.data.name, channels or shape[0], size, names, len(shape) - 1)
