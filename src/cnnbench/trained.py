"""A finished run's best weights with all that it takes to use them; the run's folder is enough."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnbench.config import Config, from_dict
from cnnbench.data import DatasetInfo
from cnnbench.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK
from cnnbench.parts import model_for, placed
from cnnbench.results import RunFolder
from cnnbench.training import checkpoint
from cnnbench.training.device import autocast


@dataclass(frozen=True)
class Trained:
    """What a run's folder says of its model and of the images it was trained on.

    Attributes:
        config: the run's own; whoever changes it changes what is built from it.
        tensors: the best checkpoint's.
        mean, std: per channel, for pixels scaled to 0…1.
        polarity: of the training images, as `polarity_of` gives it; None also in runs from before it was recorded.
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
        model = model_for(self.config, self.info)
        checkpoint.load_model(model, self.tensors)
        return placed(model, device, self.config)

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
    config = from_dict(run.config())
    tensors, record = checkpoint.load(run.checkpoints, "best")
    try:
        data = dict(record["data"])
        mean, std = tuple(data.pop("mean")), tuple(data.pop("std"))
        polarity = data.pop("polarity", None)
        if polarity not in (LIGHT_ON_DARK, DARK_ON_LIGHT):
            polarity = None
        info = DatasetInfo(**{**data, "class_names": tuple(data["class_names"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"the checkpoint does not say how its images were prepared: {error}") from None
    return Trained(run, config, tensors, info, mean, std, polarity)
