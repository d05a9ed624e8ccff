"""A finished run's best weights beside the images to measure them on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.data import Batches, Split
from cnnbench.experiment.build import use_threads_of
from cnnbench.experiment.factories import make_batches
from cnnbench.experiment.measuring.measured_data import DataChoice, MeasuredData, choose_data
from cnnbench.experiment.measuring.trained import Trained, load_trained
from cnnbench.reproducibility import make_generator, set_deterministic
from cnnbench.training.device import resolve_device
from cnnbench.training.evaluation import Evaluation, evaluate
from cnnbench.training.tasks import get_task


@dataclass(frozen=True)
class Measurement:
    """A run's best weights and the images to measure them on."""

    trained: Trained
    found: MeasuredData  # the split, and its dataset with the run's own normalisation
    model: nn.Module
    serve: Callable[..., Batches]  # makes the batches of a split
    device: torch.device

    def evaluate(self, batches: Batches, *, keep_probabilities: bool = False) -> Evaluation:
        """Measure the model on batches."""
        return evaluate(
            self.model,
            batches,
            task=get_task(self.model),
            num_classes=self.trained.info.num_classes,
            autocast=self.trained.make_autocast(self.device),
            keep_probabilities=keep_probabilities,
        )

    @torch.no_grad()
    def iterate_logits(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits, float32 (N, K), and labels (N,) of each batch of a split."""
        self.model.eval()
        autocast = self.trained.make_autocast(self.device)
        for images, labels in self.serve(split).iterate_epoch():
            with autocast():
                outputs = self.model(images)
            yield outputs.float().cpu().numpy(), labels.cpu().numpy()

    def compute_logits(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """Logits, float32 (N, K), and labels (N,) of a split that is small enough for the memory."""
        logits, labels = (np.concatenate(parts) for parts in zip(*self.iterate_logits(split), strict=True))
        return logits, labels


def prepare_measurement(
    path: Path, choice: DataChoice, *, device: str | None = None, batch_size: int | None = None
) -> Measurement:
    """Read a run and the images to measure it on.

    Args:
        device: auto, cpu, cuda, cuda:N or mps; None is auto.
        batch_size: None is the run's own for evaluation.

    Raises:
        ValueError: not a finished run, no such split, other classes, or none of the run's images.
    """
    trained = load_trained(path)
    trained.refuse_large_batches(1)
    config = trained.config
    config.trainer.eval_batch_size = batch_size or config.trainer.eval_batch_size
    found = choose_data(trained, choice)
    trained.refuse_large_batches(min(config.trainer.eval_batch_size, len(found.split)))
    return build_measurement(trained, found, resolve_device(device or "auto"))


def build_measurement(trained: Trained, found: MeasuredData, device: torch.device) -> Measurement:
    """Prepare the measurement of a run's best weights on images that have been loaded."""
    config = trained.config
    notes = [*found.notes, *use_threads_of(trained.folder, device)]
    set_deterministic(config.trainer.deterministic)  # as in training: on a GPU, other algorithms give other bits
    # Other data are also normalised with the run's constants: the network has learned with those.
    found = replace(found, notes=notes, dataset=replace(found.dataset, mean=trained.mean, std=trained.std))
    serve = partial(make_batches, dataset=found.dataset, config=config, device=device)
    return Measurement(trained, found, trained.load_model(device), serve, device)


def sample_images(count: int, most: int | None, purpose: str = "robustness images") -> Tensor:
    """The indices of the images to measure, in order: all, or a random sample, the same for all splits of this size."""
    if most is None:
        return torch.arange(count)
    return torch.randperm(count, generator=make_generator(0, purpose, count))[:most].sort().values
