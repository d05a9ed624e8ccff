"""The settings of training, and an epoch that a run trains alone or together with other runs."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from cnnbench.data import Batches
from cnnbench.training.loop import train_one_epoch
from cnnbench.training.optim import Schedule
from cnnbench.training.state import State

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The settings of training.

    Attributes:
        noise_seed: with epoch and step it determines dropout and other noise inside the network.
        lr: the base learning rate; the schedule multiplies it.
        class_weights: the weight of each class in the training loss; None weighs all classes alike.
        monitor: the metric that chooses the best epoch; None leaves it to the model's task.
        patience: stop after this many epochs without a better monitor.
        ema: decay of a moving average of the weights; the average is then validated, kept as the best, and tested.
        accumulate: batches in a step.
        graph: record the step as a CUDA graph, and replay it.
        checkpoint_minutes: also save when this much time has passed within an epoch.
        keep: how many checkpoints of past epochs stay beside the last and the best.
    """

    epochs: int
    noise_seed: int
    lr: float
    num_classes: int
    precision: str = "fp32"
    compile: bool = False
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    class_weights: tuple[float, ...] | None = None
    monitor: str | None = None
    patience: int | None = None
    ema: float | None = None
    accumulate: int = 1
    graph: bool = False
    checkpoint_minutes: float | None = None
    keep: int = 0


@dataclass(frozen=True)
class TrainingPass:
    """One epoch of a run that is about to be trained, or the rest of it.

    Attributes:
        advance: as in `train_one_epoch`.
    """

    state: State
    batches: Batches
    settings: Settings
    schedule: Schedule
    advance: Callable[[int, float | None], None]

    def run(self) -> dict[str, float]:
        """Train the epoch of this run alone."""
        return train_one_epoch(
            self.state.step,
            self.batches,
            self.state.progress,
            epoch=self.state.history.epochs,
            noise_seed=self.settings.noise_seed,
            lr=self.settings.lr,
            schedule=self.schedule,
            advance=self.advance,
        )


def train_alone(generator: Generator[TrainingPass, dict[str, float] | None, T]) -> T:
    """Let a run train alone to its end; return what its generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
