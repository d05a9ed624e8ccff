"""A finished run's best weights with all that it takes to use them; the run's folder is enough."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.config.schema import Config
from cnnbench.data import DatasetInfo, to_image_size
from cnnbench.data.memory import refuse_beyond_memory
from cnnbench.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK
from cnnbench.experiment.build import bytes_an_image, model_for, placed
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.reopening import load_config
from cnnbench.training import checkpoint
from cnnbench.training.device import autocast

PREPARED = ("name", "in_channels", "image_size", "class_names", "mean", "std")
MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIGNAL = 4096, 2**14, 2**24


@dataclass(frozen=True)
class Trained:
    """What a run's folder says of its model and of the images it was trained on.

    Attributes:
        config: the run's own; whoever changes it changes what is built from it.
        tensors: the best checkpoint's.
        mean, std: per channel, for pixels scaled to 0…1.
        polarity: of the training images, as `find_polarity` gives it; None also in runs from before it was recorded.
    """

    folder: RunFolder
    config: Config
    tensors: dict[str, Tensor]
    info: DatasetInfo
    mean: tuple[float, ...]
    std: tuple[float, ...]
    polarity: str | None

    def model_on(self, device: torch.device) -> nn.Module:
        """The model with its weights on a device, in the memory format it was trained in.

        Raises:
            ValueError: the weights are not this model's.
        """
        self._refuse_larger_models()
        model = model_for(self.config, self.info)
        checkpoint.load_model(model, self.tensors)
        return placed(model, device, self.config)

    def refuse_beyond_memory(self, images: int) -> None:
        """Refuse images that no memory here could take through the model.

        Args:
            images: at a time.

        Raises:
            ValueError: they take more than half of the memory.
        """
        self._refuse_larger_models()
        each, size = bytes_an_image(self.config, self.info), self.info.image_size
        refuse_beyond_memory(each, f"image_size={size}, which the run's checkpoint says,")
        refuse_beyond_memory(images * each, f"a batch of {images:,} images of image_size={size} (--batch-size)")

    def use_threads(self) -> None:
        """Let torch compute with as many threads as the run did: with others, the last bits of a result change."""
        if threads := self.folder.read_threads():
            torch.set_num_threads(threads)

    def _refuse_larger_models(self) -> None:
        """A config may describe a model that no memory holds; that of this checkpoint has no more weights than it."""
        stored = sum(value.numel() for value in self.tensors.values())
        described = math.inf
        if self.config.model.depth <= len(self.tensors):  # each layer has at least one
            try:
                sizes = [value.numel() for value in model_for(self.config, self.info, "meta").state_dict().values()]
                described = sum(sizes)
            except (RuntimeError, OverflowError):  # sizes beyond 64 bits
                pass
        if described > stored:
            raise ValueError(
                f"the checkpoint does not fit the model: it has {stored:,} numbers, and "
                f"model={self.config.model.name} with width {self.config.model.width} and depth "
                f"{self.config.model.depth} has more"
            )

    def autocast_on(self, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
        """Makes the context of a forward pass, in the run's precision.

        A run trained in fp16 on a GPU can be used anywhere: where fp16 does not work, in fp32.
        """
        precision = self.config.trainer.precision
        fits = precision != "fp16" or device.type == "cuda"
        return autocast(device, precision if fits else "fp32")


def load_trained(path: Path) -> Trained:
    """Read a run's config, best weights and data constants.

    Raises:
        ValueError: not a run folder, no weights yet, or a damaged file.
    """
    run = RunFolder.existing(path)
    config = load_config(run)
    tensors, record = checkpoint.load(run.checkpoints, "best")
    info, mean, std, polarity = _data_of(record.get("data"))
    return Trained(run, config, tensors, info, mean, std, polarity)


def _data_of(data: Any) -> tuple[DatasetInfo, tuple[float, ...], tuple[float, ...], str | None]:
    """What a checkpoint says of the images: what they are, mean and standard deviation by channel, polarity.

    Raises:
        ValueError: it does not say it, or not in the types and ranges that `Trained` relies on.
    """
    unsaid = "the checkpoint does not say how its images were prepared"
    try:
        name, channels, size, names, mean, std = (data[key] for key in PREPARED)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{unsaid}: {error}") from None
    dimensions = data.get("dimensions", 2)
    largest = LARGEST_SIGNAL if dimensions == 1 else LARGEST_SIDE
    sides = size if isinstance(size, list) and len(size) == 2 == dimensions else [size]
    checks = {
        "dimensions": dimensions in (1, 2),
        "name": isinstance(name, str),
        "in_channels": type(channels) is int and 1 <= channels <= MOST_CHANNELS,
        "image_size": all(type(side) is int and 1 <= side <= largest for side in sides),
        "class_names": isinstance(names, list) and all(isinstance(one, str) for one in names),
        "mean": _are_numbers(mean, channels),
        "std": _are_numbers(std, channels) and min(std) > 0,
    }
    for key, holds in checks.items():
        if not holds:
            raise ValueError(f"{unsaid}: {key}={str(data.get(key))[:60]!r}")
    polarity = data.get("polarity")
    known = polarity in (LIGHT_ON_DARK, DARK_ON_LIGHT)
    info = DatasetInfo(name, channels, to_image_size(*sides) if len(sides) == 2 else size, tuple(names), dimensions)
    return info, tuple(mean), tuple(std), polarity if known else None


def _are_numbers(values: Any, count: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )
