"""How far an epoch has come, and the summary of a finished one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnbench.data import Batches
from cnnbench.training.tasks import Task

ADVICE = "A smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_epochs=1 usually helps"


class Diverged(RuntimeError):
    """A loss or a weight became infinite or not a number."""


@dataclass
class Progress:
    """How far an epoch has come."""

    sizes: Sequence[int]  # the images of each step
    losses: Tensor  # float32 (steps,), each step's mean loss; 0 for the steps to come
    correct: Tensor | None  # int64 (), correct predictions made while training; None for a task without classes
    steps: int = 0  # finished ones
    seconds: float = 0.0  # spent on them

    @classmethod
    def start(cls, batches: Batches, task: Task, accumulate: int) -> "Progress":
        """Progress of an epoch that has not begun; a step takes `accumulate` batches."""
        sizes, device = list_step_sizes(batches, accumulate), batches.device
        correct = torch.zeros((), dtype=torch.int64, device=device) if task.has_classes else None
        return cls(sizes, torch.zeros(len(sizes), device=device), correct)

    def start_next(self) -> "Progress":
        """Progress of the epoch after this one."""
        correct = None if self.correct is None else torch.zeros_like(self.correct)
        return Progress(self.sizes, torch.zeros_like(self.losses), correct)

    def check_losses(self, epoch: int) -> None:
        """Check the losses so far; this waits for the device.

        Args:
            epoch: counted from 0.

        Raises:
            Diverged: a loss is infinite or not a number; the message names epoch and step, both counted from 1.
        """
        finite = torch.isfinite(self.losses)
        if not bool(finite.all()):
            step = int((~finite).nonzero()[0])
            raise Diverged(
                f"the loss became {self.losses[step].item()} at epoch {epoch + 1}, step {step + 1}. {ADVICE}"
            )

    def summarize(self) -> dict[str, float]:
        """The mean loss over the images of a finished epoch and, for a task with classes, the accuracy."""
        images = sum(self.sizes)
        # On the CPU in float64, so that the mean is the same on every device.
        trained = {"loss": float((self.losses.double().cpu() * torch.tensor(self.sizes)).sum() / images)}
        if self.correct is not None:
            trained["accuracy"] = int(self.correct) / images
        return trained


def list_step_sizes(batches: Batches, accumulate: int) -> list[int]:
    """How many images each step of an epoch has."""
    images, size = len(batches.labels), batches.batch_size * accumulate
    return [min(size, images - first) for first in range(0, images, size)]
