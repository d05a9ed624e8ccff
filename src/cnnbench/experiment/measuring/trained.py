"""A finished run's best weights and what is needed to use them, read from its folder alone."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnbench.config.schema import Config
from cnnbench.data import Batches, DatasetInfo, Split
from cnnbench.data.memory import refuse_beyond_memory
from cnnbench.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK
from cnnbench.experiment.data_record import read_image_record
from cnnbench.experiment.factories import count_values, estimate_bytes_per_image, make_model, place_model
from cnnbench.runs.calibration import Temperature, find_temperature
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.reopening import load_config
from cnnbench.training import checkpoint
from cnnbench.training.device import make_autocast
from cnnbench.training.tasks import get_task


@dataclass(frozen=True)
class Trained:
    """A run's model and the images it was trained on."""

    folder: RunFolder
    config: Config  # the run's own; a change applies to what is built from it afterwards
    tensors: dict[str, Tensor]  # of the best checkpoint
    info: DatasetInfo
    mean: tuple[float, ...]  # per channel, as is `std`, for pixels scaled to 0…1
    std: tuple[float, ...]
    polarity: str | None  # of the training images, as `find_polarity` gives it

    def load_model(self, device: torch.device) -> nn.Module:
        """The model with its weights on a device, in the run's memory format.

        Raises:
            ValueError: the weights do not fit the model.
        """
        self._refuse_larger_models()
        model = make_model(self.config, self.info)
        checkpoint.load_model(model, self.tensors)
        return place_model(model, device, self.config)

    def refuse_large_batches(self, images: int) -> None:
        """Raise a ValueError if a batch of this many images takes more than half of the memory."""
        self._refuse_larger_models()
        each, size = estimate_bytes_per_image(self.config, self.info), self.info.image_size
        refuse_beyond_memory(each, f"image_size={size}, which the run's checkpoint says,")
        refuse_beyond_memory(images * each, f"a batch of {images:,} images of image_size={size} (--batch-size)")

    def require_classes(self, model: nn.Module) -> None:
        """Raise a ValueError if the run's task has no classes."""
        task = get_task(model)
        if not task.has_classes:
            raise ValueError(
                f"{str(self.folder.path)!r} is a {task.name} run ({self.config.model.name}): it has no classes"
            )

    def serve_images(self, images: Tensor, device: torch.device) -> Batches:
        """Images, uint8 (N, C, H, W), or signals, float32 (N, C, L), in one batch, as the network takes them."""
        batches = Batches(
            Split(images, torch.zeros(len(images), dtype=torch.int64)).to(device),
            len(images),
            mean=self.mean,
            std=self.std,
            channels_last=self.config.trainer.channels_last,
        )
        return batches.with_permuted_pixels(self.config.data.permute_pixels)

    def read_temperature(self) -> tuple[Temperature | None, list[str]]:
        """The temperature that calibrates its probabilities, if it has one; and a note if it is for other weights.

        Raises:
            ValueError: `temperature.json` is damaged.
        """
        found = find_temperature(self.folder.path)
        if found is None or found.is_current:
            return found, []
        return None, [
            "probabilities are not calibrated, because the run was trained further since its temperature was fitted: "
            "cnnbench evaluate --calibrate fits a new one"
        ]

    def _refuse_larger_models(self) -> None:
        """Refuse a config whose model has more weights than the checkpoint, before it fills the memory."""
        model, stored = self.config.model, sum(value.numel() for value in self.tensors.values())
        # Each layer has at least one tensor; even to describe a model that is far deeper would take very long.
        if model.depth > len(self.tensors) or count_values(self.config, self.info) > stored:
            raise ValueError(
                f"the checkpoint does not fit the model: it has {stored:,} numbers, and model={model.name} with width "
                f"{model.width} and depth {model.depth} has more"
            )

    def make_autocast(self, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
        """A function that makes the context of a forward pass in the run's precision. Without CUDA, fp16 is fp32."""
        precision = self.config.trainer.precision
        fits = precision != "fp16" or device.type == "cuda"
        return make_autocast(device, precision if fits else "fp32")


def load_trained(path: Path) -> Trained:
    """Read a run's config, best weights and data constants.

    Raises:
        ValueError: not a run folder, no weights yet, or a damaged file.
    """
    run = RunFolder.open_existing(path)
    config = load_config(run)
    tensors, record = checkpoint.load(run.checkpoints, checkpoint.BEST)
    data = read_image_record(record)
    polarity = data.polarity if data.polarity in (LIGHT_ON_DARK, DARK_ON_LIGHT) else None
    return Trained(run, config, tensors, data.info, tuple(data.mean), tuple(data.std), polarity)
