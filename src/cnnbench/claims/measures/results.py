"""What a finished run achieved."""

import math

from cnnbench.claims.subjects import FinishedRun
from cnnbench.config.keys import Options, key
from cnnbench.registry import register

SHIFTS = 28  # the widest images that claims are about
SMALLEST_RATE = -6  # as a power of ten, below those that anyone tries


class ShiftOptions(Options):
    """Which shifts of the test images."""

    pixels: int = key("How far, along either axis or both", ge=1, le=SHIFTS)
    images: int = key("Test images to measure on, the same for every run", 2000, ge=1)


class ReachOptions(Options):
    """What counts as learned."""

    bound: float = key("The least test accuracy", 0.5, gt=0, lt=1)


class EpochOptions(Options):
    """Which epoch of a run."""

    epoch: int = key("Counted from 1", ge=1)


@register("measure", "accuracy", source="run", low=0, high=1, diverged=0)
def accuracy(run: FinishedRun) -> float:
    """Share of the test images that are classified correctly; a run that diverged classifies none."""
    return _read_accuracy(run)


@register("measure", "diverged", source="run", low=0, high=1, diverged=1)
def diverged(run: FinishedRun) -> float:
    """1 if the loss became infinite or not a number, 0 if the run came to its end."""
    return 0.0


@register("measure", "train_error", source="run", low=0, high=1, diverged=1)
def train_error(run: FinishedRun) -> float:
    """Share of the training images that the finished network classifies wrongly."""
    return 1 - _measure_train_accuracy(run)


@register("measure", "learned_rate", source="run", low=SMALLEST_RATE, high=6, diverged=SMALLEST_RATE)
def learned_rate(run: FinishedRun, options: ReachOptions) -> float:
    """The power of ten of the learning rate, if the run learned at it; the lowest value if it did not, or diverged.

    The highest of a grid of learning rates is the boundary of divergence.
    """
    from cnnbench.runs.folder import RunFolder

    rate = float(RunFolder(run.path).read_config()["optimizer"]["lr"])
    return math.log10(rate) if _read_accuracy(run) >= options.bound else SMALLEST_RATE


@register("measure", "generalisation_gap", source="run", low=-1, high=1)
def generalisation_gap(run: FinishedRun) -> float:
    """Accuracy on the training images minus that on the test images, both by the finished network."""
    return _measure_train_accuracy(run) - _read_accuracy(run)


@register("measure", "early_accuracy", source="run", low=0, high=1, diverged=0)
def early_accuracy(run: FinishedRun, options: EpochOptions) -> float:
    """Training accuracy during one epoch: how fast a network learns."""
    from cnnbench.runs.folder import RunFolder

    rows = {row["epoch"]: row for row in RunFolder(run.path).read_metrics()}
    if options.epoch not in rows or rows[options.epoch].get("train/accuracy") is None:
        raise ValueError(f"{run.path} has no training accuracy of epoch {options.epoch}")
    return float(rows[options.epoch]["train/accuracy"])


@register("measure", "shifted_accuracy", source="run", low=0, high=1, diverged=0)
def shifted_accuracy(run: FinishedRun, options: ShiftOptions) -> float:
    """Test accuracy after a shift, the mean over all directions."""
    return _measure_shifts(run, options)[0]


@register("measure", "shift_loss", source="run", low=-1, high=1)
def shift_loss(run: FinishedRun, options: ShiftOptions) -> float:
    """Accuracy on unchanged test images minus that on shifted ones."""
    shifted, unchanged, _ = _measure_shifts(run, options)
    return unchanged - shifted


@register("measure", "shift_consistency", source="run", low=0, high=1, diverged=0)
def shift_consistency(run: FinishedRun, options: ShiftOptions) -> float:
    """Share of the test images that get the same class after a shift as before."""
    return _measure_shifts(run, options)[2]


def _read_accuracy(run: FinishedRun) -> float:
    value = run.summary.get("test/accuracy")
    if not isinstance(value, float | int):
        raise ValueError(f"{run.path} has no test accuracy")
    return float(value)


def _measure_train_accuracy(run: FinishedRun) -> float:
    ready = run.prepare("train")
    measured = ready.evaluate(ready.serve(ready.found.split)).classified
    if measured is None:
        raise ValueError(f"{run.path} has no classes")
    confusion = measured.confusion
    return float(confusion.trace() / confusion.sum())


def _measure_shifts(run: FinishedRun, options: ShiftOptions) -> tuple[float, float, float]:
    """Accuracy under shifts, accuracy without, and consistency under shifts."""
    from cnnbench.experiment.measuring.robustness import measure_robustness

    found = measure_robustness(run.path, ["shift"], max_images=options.images, max_shift=options.pixels)
    unchanged = next(row.accuracy for row in found.rows if row.strength == 0)
    shifted = [row for row in found.rows if row.strength == options.pixels]
    n = len(shifted)  # directions
    return sum(row.accuracy for row in shifted) / n, unchanged, sum(row.consistency for row in shifted) / n
