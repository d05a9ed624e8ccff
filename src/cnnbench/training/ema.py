"""A moving average of the weights along training (Polyak and Juditsky, 1992)."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving averages of a model's parameters and floating-point buffers.

    After step t, counted from 0, `average += (1 - d) (weights - average)` with d = min(decay, (1 + t) / (10 + t)).

    Args:
        model: on its device.
        decay: between 0 and 1; the average remembers about 1 / (1 - decay) steps.

    Attributes:
        model: a copy of the model with the averages as its weights, for evaluation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        pairs = [
            *zip(self.model.parameters(), model.parameters(), strict=True),
            *zip(self.model.buffers(), model.buffers(), strict=True),
        ]
        # Counts, such as a batch norm's of its batches, have no mean.
        self._averaged = [(average, value) for average, value in pairs if average.is_floating_point()]
        self._copied = [(average, value) for average, value in pairs if not average.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after a step of the run, counted from 0."""
        averages, weights = map(list, zip(*self._averaged, strict=True))
        move_averages(averages, weights, self.decay, step)
        for average, value in self._copied:
            average.copy_(value)


def move_averages(averages: list[Tensor], weights: list[Tensor], decay: float, step: int) -> None:
    """Move averages towards weights, in place, by the formula of `WeightAverage`."""
    decay = min(decay, (1 + step) / (10 + step))  # soon forgets the random first weights, even in a short run
    torch._foreach_lerp_(averages, weights, 1 - decay)
