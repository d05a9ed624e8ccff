"""The confusion matrix as a sum: batches, devices and processes add up to the same counts in any order."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a report takes the scores from this package, and needs no torch
    import torch
    from torch import Tensor


def new_confusion(num_classes: int, device: "torch.device | str" = "cpu") -> "Tensor":
    """Zero counts, int64, (num_classes, num_classes): rows true, columns predicted."""
    import torch

    return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)


def add_to_confusion(confusion: "Tensor", predictions: "Tensor", labels: "Tensor") -> None:
    """Count a batch in place, on the matrix's own device and without waiting for it.

    Args:
        predictions, labels: int64, (N,), each from 0 to num_classes − 1.
    """
    # bincount would read its input's maximum back to the host; scatter_add does not.
    cells = labels * confusion.shape[1] + predictions
    confusion.view(-1).scatter_add_(0, cells, _ones(len(cells), cells.device))


@functools.lru_cache(maxsize=8)
def _ones(count: int, device: "torch.device") -> "Tensor":
    """Made once for each batch size: in a step of the MLP every new tensor shows."""
    import torch

    return torch.ones(count, dtype=torch.int64, device=device)
