"""One epoch of training, which a run trains alone or together with other runs."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from cnnbench.data import Batches
from cnnbench.reproducibility import derive_key, seed_model_noise
from cnnbench.training.graph import set_lr
from cnnbench.training.optim import Schedule
from cnnbench.training.settings import Settings
from cnnbench.training.state import State

T = TypeVar("T")
CHECK_EVERY = 64  # steps between two checks of the loss, each of which waits for the device


@dataclass(frozen=True)
class TrainingPass:
    """One epoch of a run, or the rest of it, that is about to be trained.

    Attributes:
        advance: called after each step with its number of images and, now and then, its loss. What it raises ends the
            pass there.
    """

    state: State
    epoch: int  # counted from 0
    batches: Batches
    settings: Settings
    schedule: Schedule
    advance: Callable[[int, float | None], None]

    def run(self) -> dict[str, float]:
        """Train the run alone, on each batch of the epoch once.

        Returns:
            `loss`, the mean over the images as it is optimised (with label smoothing and auxiliary heads); for a task
            with classes also `accuracy`, of the predictions made while training.

        Raises:
            Diverged: a loss is infinite or not a number.
        """
        stepper, progress = self.state.stepper, self.state.progress
        steps = len(progress.sizes)
        first = self.epoch * steps
        clock = time.perf_counter() - progress.seconds
        # A resumed epoch continues where it was interrupted: the order of the images depends on the epoch alone.
        served = self.batches.iterate_epoch(self.epoch, progress.steps * stepper.accumulate)
        for number in range(progress.steps, steps):
            seed_model_noise(self.make_key(number), self.batches.device)
            set_lr(stepper.optimizer, self.settings.lr * self.schedule(first + number))
            loss, correct = stepper(islice(served, stepper.accumulate), progress.sizes[number])
            if stepper.average is not None:
                stepper.average.update(first + number)
            progress.losses[number] = loss
            if progress.correct is not None and correct is not None:
                progress.correct += correct
            progress.steps = number + 1
            progress.seconds = time.perf_counter() - clock
            is_checked = number % CHECK_EVERY == 0 or number + 1 == steps
            if is_checked:
                progress.check_losses(self.epoch)
            self.advance(progress.sizes[number], loss.item() if is_checked else None)
        next(served, None)  # lets the loader finish
        progress.check_losses(self.epoch)  # of an epoch that was resumed behind its last step, too
        progress.seconds = max(progress.seconds, time.perf_counter() - clock)
        return progress.summarize()

    def make_key(self, step: int) -> int:
        """The key of the noise inside the network at a step of the epoch, counted from 0."""
        return derive_key(self.settings.noise_seed, "step", self.epoch, step, *self.state.stepper.rank.noise_key)


def train_alone(generator: Generator[TrainingPass, dict[str, float] | None, T]) -> T:
    """Let a run train alone to its end; return what its generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
