"""A finished run's best weights and everything needed to use them, read from its folder alone."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnbench.config.schema import Config
from cnnbench.data import DatasetInfo
from cnnbench.data.memory import refuse_beyond_memory
from cnnbench.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK
from cnnbench.experiment.build import estimate_bytes_per_image, make_model, place_model
from cnnbench.experiment.image_record import read_image_record
from cnnbench.reproducibility import describe_differences, use_threads
from cnnbench.runs.calibration import Temperature, find_temperature
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.reopening import load_config
from cnnbench.training import checkpoint
from cnnbench.training.device import make_autocast


@dataclass(frozen=True)
class Trained:
    """A run's model and the images it was trained on.

    Attributes:
        config: the run's own; a change applies to what is built from it afterwards.
        tensors: the best checkpoint's.
        mean, std: per channel, for pixels scaled to 0…1.
        polarity: of the training images, as `find_polarity` gives it.
    """

    folder: RunFolder
    config: Config
    tensors: dict[str, Tensor]
    info: DatasetInfo
    mean: tuple[float, ...]
    std: tuple[float, ...]
    polarity: str | None

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

    def use_threads(self, device: torch.device) -> list[str]:
        """Compute with as many threads as the run did, because their number changes the last bits of a result.

        Returns:
            A note, if something else differs here that changes them.
        """
        return use_threads_of(self.folder, self.folder.read_threads(), device)

    def read_temperature(self) -> tuple[Temperature | None, list[str]]:
        """The temperature that calibrates its probabilities, if it has one.

        Returns:
            The temperature, and a note if there is one that was fitted to other weights.

        Raises:
            ValueError: `temperature.json` is damaged.
        """
        found = find_temperature(self.folder.path)
        if found is None or found.is_current:
            return found, []
        return None, [
            "probabilities are not calibrated, because the run was trained further since its temperature was fitted: "
            "cnnbench evaluate --calibrate fits another"
        ]

    def _refuse_larger_models(self) -> None:
        """Refuse a config whose model has more weights than the checkpoint, before it fills the memory."""
        stored = sum(value.numel() for value in self.tensors.values())
        described = math.inf
        if self.config.model.depth <= len(self.tensors):  # each layer has at least one tensor
            try:
                sizes = [value.numel() for value in make_model(self.config, self.info, "meta").state_dict().values()]
                described = sum(sizes)
            except (RuntimeError, OverflowError):  # sizes beyond 64 bits
                pass
        if described > stored:
            raise ValueError(
                f"the checkpoint does not fit the model: it has {stored:,} numbers, and "
                f"model={self.config.model.name} with width {self.config.model.width} and depth "
                f"{self.config.model.depth} has more"
            )

    def make_autocast(self, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
        """A function that makes the context of a forward pass in the run's precision. Without CUDA, fp16 is fp32."""
        precision = self.config.trainer.precision
        fits = precision != "fp16" or device.type == "cuda"
        return make_autocast(device, precision if fits else "fp32")


def use_threads_of(run: RunFolder, threads: int | None, device: torch.device) -> list[str]:
    """Use the number of threads of a run that was trained in another process, if it is known.

    Args:
        device: that computes now.

    Returns:
        A note, if something differs from the run's own environment that may change the last bits of a result.
    """
    if threads:
        use_threads(threads)
    differences = describe_differences(run.read_environment(), device)
    if not differences:
        return []
    return [f"the last bits may differ from those of the machine that trained the run: {'; '.join(differences)}"]


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
