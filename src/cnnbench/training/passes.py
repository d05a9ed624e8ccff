"""The settings of training, and an epoch that a run trains alone or together with other runs."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from cnnbench.data import Batches
from cnnbench.reproducibility import derive_key, seed_model_noise
from cnnbench.training.graph import set_lr
from cnnbench.training.optim import Schedule
from cnnbench.training.state import State

T = TypeVar("T")
CHECK_EVERY = 64  # steps between two checks of the loss, each of which waits for the device


@dataclass(frozen=True)
class Settings:
    """The settings of training; those that are keys of the section `trainer` have their names."""

    epochs: int
    noise_seed: int  # with epoch and step it determines dropout and other noise inside the network
    lr: float  # the base learning rate; the schedule multiplies it
    num_classes: int
    precision: str = "fp32"
    compile: bool = False
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    class_weights: tuple[float, ...] | None = None  # of each class in the training loss; None weighs all classes alike
    monitor: str | None = None  # the metric that chooses the best epoch; None leaves it to the model's task
    patience: int | None = None  # stop after this many epochs without a better monitor
    ema: float | None = None  # decay of an average of the weights, which is then validated and tested
    accumulate: int = 1  # batches in a step
    graph: bool = False  # record the step as a CUDA graph, and replay it
    checkpoint_minutes: float | None = None  # also save when this much time has passed within an epoch
    keep: int = 0  # how many checkpoints of past epochs stay beside the last and the best


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
        step, progress = self.state.step, self.state.progress
        steps = len(progress.sizes)
        first = self.epoch * steps
        clock = time.perf_counter() - progress.seconds
        # A resumed epoch continues where it was interrupted: the order of the images depends on the epoch alone.
        served = self.batches.iterate_epoch(self.epoch, progress.steps * step.accumulate)
        for number in range(progress.steps, steps):
            seed_model_noise(self.make_key(number), self.batches.device)
            set_lr(step.optimizer, self.settings.lr * self.schedule(first + number))
            loss, correct = step(islice(served, step.accumulate), progress.sizes[number])
            if step.average is not None:
                step.average.update(first + number)
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
        return derive_key(self.settings.noise_seed, "step", self.epoch, step, *self.state.step.rank.noise_key)


def train_alone(generator: Generator[TrainingPass, dict[str, float] | None, T]) -> T:
    """Let a run train alone to its end; return what its generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
