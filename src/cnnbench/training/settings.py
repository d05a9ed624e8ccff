"""The settings of training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Those that are keys of the section `trainer` have the names of the keys."""

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
