"""How far an epoch has come, and the summary of a finished one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnbench.data import Batches
from cnnbench.training.tasks import Task


@dataclass
class Progress:
    """How far an epoch has come.

    Attributes:
        steps: the number of finished steps.
        losses: float32 (steps an epoch,), each step's mean loss.
        correct: int64 (), correct predictions made while training; None for a task without classes.
        seconds: spent on these steps.
    """

    steps: int
    losses: Tensor
    correct: Tensor | None
    seconds: float = 0.0

    @classmethod
    def start(cls, batches: Batches, task: Task, accumulate: int = 1) -> "Progress":
        """Progress of an epoch that has not begun; a step takes `accumulate` batches."""
        device = batches.device
        correct = torch.zeros((), dtype=torch.int64, device=device) if task.has_classes else None
        return cls(0, torch.zeros(-(-len(batches) // accumulate), device=device), correct)


def list_step_sizes(batches: Batches, accumulate: int) -> list[int]:
    """How many images each step of an epoch has."""
    images, size = len(batches.labels), batches.batch_size * accumulate
    return [min(size, images - first) for first in range(0, images, size)]


def summarize_epoch(progress: Progress, sizes: Sequence[int]) -> dict[str, float]:
    """What `train_one_epoch` returns of an epoch whose steps had so many images each."""
    trained = {"loss": float((progress.losses.double().cpu() * torch.tensor(sizes)).sum() / sum(sizes))}
    if progress.correct is not None:
        trained["accuracy"] = int(progress.correct) / sum(sizes)
    return trained
