"""The learning-rate range test: how the loss reacts to a learning rate that grows from step to step.

Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, arXiv:1506.01186.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cnnbench.data import Batches
from cnnbench.reproducibility import derive_key, seed_model_noise
from cnnbench.training.graph import set_lr
from cnnbench.training.progress import list_step_sizes
from cnnbench.training.step import Stepper

DIVERGED = 4.0  # times the least loss so far: the test ends
WINDOW = 5  # steps over which that is judged
WIDTH = 0.15  # decades, the standard deviation of the curve that smooths losses
FALL = 0.01  # of the first losses
SHARE = 1 / 4  # of the rate at which the loss is least


def measure_losses(
    stepper: Stepper,
    batches: Batches,
    rates: np.ndarray,
    *,
    noise_seed: int,
    advance: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Take a step with each learning rate in turn, on the batches and with the noise of a run's first epochs.

    Args:
        rates: ascending, (N,).
        noise_seed: with epoch and step it determines dropout and other noise inside the network.
        advance: called after each step; what it raises ends the test.

    Returns:
        The losses before each step, (n,), n ≤ N, because the test ends when they diverge; the last one may be infinite
        or not a number.
    """
    sizes = list_step_sizes(batches, stepper.accumulate)
    losses: list[float] = []
    least = math.inf
    for place, rate in enumerate(rates.tolist()):
        epoch, number = divmod(place, len(sizes))
        if not number:
            served = batches.iterate_epoch(epoch)
        seed_model_noise(derive_key(noise_seed, "step", epoch, number, *stepper.rank.noise_key), batches.device)
        set_lr(stepper.optimizer, rate)
        loss, _ = stepper(islice(served, stepper.accumulate), sizes[number])
        losses.append(loss.item())  # waits for the device, which a training step must not: divergence ends the test
        advance()
        recent = float(np.mean(losses[-WINDOW:]))
        least = min(least, recent) if len(losses) >= WINDOW else least
        if not math.isfinite(losses[-1]) or recent > DIVERGED * least:
            break
    return np.array(losses)


@dataclass(frozen=True)
class Suggestion:
    """Learning rates that a range test found."""

    rate: float  # the geometric mean of `low` and `high`, to two digits
    low: float  # `steepest` or a quarter of `least`, whichever is lower
    high: float  # the other of the two
    steepest: float  # where the smoothed loss falls fastest, by the logarithm of the rate
    least: float  # where the smoothed loss is least


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test."""

    rates: np.ndarray  # (n,), of the steps that were taken
    losses: np.ndarray  # (n,)
    smoothed: np.ndarray  # (n,)
    suggestion: Suggestion | None  # None if the loss never falls


def judge_losses(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
    """Find the learning rates at which the loss falls.

    Two rules are combined: the rate at which the loss falls fastest, and a quarter of the rate at which it is least,
    which Smith takes as the base rate where that is the largest one. They are the ends of the range. The loss never
    falls if its least value is below that of the first steps by no more than `FALL` of it or twice the scatter.

    Args:
        rates: ascending, evenly spaced in their logarithm; (N,).
        losses: (n,) with n ≤ N, the first of them finite.
    """
    finite = np.isfinite(losses)
    losses = losses if finite.all() else losses[: finite.argmin()]
    rates = rates[: len(losses)]
    logarithms = np.log10(rates)
    smoothed = _smooth(logarithms, losses)
    start = float(losses[: max(3, len(losses) // 10)].mean())
    # The standard deviation of a loss around the curve, from successive steps: neither fall nor divergence adds to it.
    scatter = float(np.median(np.abs(np.diff(losses)))) / 0.954 if len(losses) > 1 else 0.0
    least = int(smoothed.argmin())
    if least == 0 or start - smoothed[least] <= max(FALL * abs(start), 2 * scatter):
        return RangeTest(rates, losses, smoothed, None)
    slopes = np.gradient(smoothed, logarithms)
    steepest, end = float(rates[slopes[: least + 1].argmin()]), float(rates[least])
    low, high = sorted((steepest, end * SHARE))
    rate = float(f"{math.sqrt(low * high):.2g}")
    # Where both rules agree, rounding may move the suggestion out of their range.
    return RangeTest(rates, losses, smoothed, Suggestion(rate, min(low, rate), max(high, rate), steepest, end))


def _smooth(logarithms: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Means weighted by a normal curve of `WIDTH` decades, on both sides alike, so that nothing falls too late."""
    weights = np.exp(-(((logarithms[:, None] - logarithms) / WIDTH) ** 2) / 2)
    return np.asarray(weights @ losses / weights.sum(1))
