"""How much of the variance of the test accuracy comes from each source of randomness, as in Bouthillier et al.,
"Accounting for Variance in Machine Learning Benchmarks" (MLSys 2021, arXiv:2103.03098).

A share is the variance between runs that vary one seed alone, divided by the variance between runs that vary all seeds
together. Sources act on each other: a network that starts elsewhere also reacts to another order of images. So the
shares need not add up to 100 %, and each may be nearly all of the variance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes a second to load, and is loaded when first used

from cnnbench.report.groups import Group
from cnnbench.report.runs import Run
from cnnbench.report.statistics import LEVEL, NO_SPREAD, Values

NAMES = {
    "init": "initial weights",
    "order": "order of the images",
    "augment": "augmentation",
    "split": "validation split and limit",
    "dropout": "dropout",
}
TOGETHER, TEST_SET = "all together", "test set of {images:,} images"
TAILS = np.array([LEVEL / 2, 1 - LEVEL / 2])


@dataclass(frozen=True)
class VarianceShare:
    """The variance of a group's test accuracy that one source causes."""

    group: str
    source: str  # what varies
    n: int | None  # runs; None for the test set
    std: float  # of the accuracy, as a share of the images
    share: float  # the variance, divided by that of all sources together
    low: float | None = None  # its 95 % interval, if there is one
    high: float | None = None


def decompose_variance(group: Group) -> list[VarianceShare]:
    """The shares of a group: of each source that was varied alone, all together, and the finite test set.

    Empty unless some of its runs vary one seed alone and others all of them, with differing accuracies.
    """
    together = _read_accuracies(group.runs)
    if not group.alone or len(together) < 2 or together.std(ddof=1) < NO_SPREAD:
        return []
    shares = []
    for source, runs in group.alone.items():
        values = _read_accuracies(runs)
        if len(values) > 1:
            ratio = compute_variance_ratio(values, together)
            shares.append(VarianceShare(group.label, NAMES[source], len(values), float(values.std(ddof=1)), *ratio))
    shares.append(VarianceShare(group.label, TOGETHER, len(together), float(together.std(ddof=1)), 1.0))
    if images := group.runs[0].summary.get("test_images"):
        variance, ratio = compare_test_set(together, images)
        shares.append(VarianceShare(group.label, TEST_SET.format(images=images), None, math.sqrt(variance), *ratio))
    return shares


def compute_variance_ratio(values: Values, reference: Values) -> tuple[float, float | None, float | None]:
    """The ratio of two variances, with its 95 % interval by the F distribution, for normally distributed values."""
    first, second = np.var(values, ddof=1), np.var(reference, ddof=1)
    ratio = float(first / second)
    if first < NO_SPREAD**2:
        return 0.0, None, None  # an interval of no width would claim certainty
    low, high = ratio / scipy.stats.f.ppf(TAILS[::-1], len(values) - 1, len(reference) - 1)
    return ratio, float(low), float(high)


def compare_test_set(accuracies: Values, images: int) -> tuple[float, tuple[float, float, float]]:
    """The binomial variance of an accuracy that is measured on so many images, and its ratio to that of the runs.

    The interval is that of the runs' variance, by the χ² distribution: the accuracy itself is known well.
    """
    mean, freedom = float(np.mean(accuracies)), len(accuracies) - 1
    variance = mean * (1 - mean) / images
    ratio = variance / float(np.var(accuracies, ddof=1))
    low, high = ratio * scipy.stats.chi2.ppf(TAILS, freedom) / freedom
    return variance, (ratio, float(low), float(high))


def _read_accuracies(runs: Sequence[Run]) -> np.ndarray:
    return np.array([run.summary["test/accuracy"] for run in runs if run.has_classes])
