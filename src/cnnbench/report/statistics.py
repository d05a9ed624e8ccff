"""Estimates and tests of a few repeated measurements, computed by scipy.

Accuracies are shares (0 to 1). Each test is two-sided; where the values do not allow a test, its p-value is None.

The runs of a cross-validation are not independent, because they share most of their training images. Their mean varies
more than that of independent runs, and a t-test that ignores this finds differences where there are none. The
correction of Nadeau and Bengio ("Inference for the Generalization Error", Machine Learning 52, 2003) replaces 1 / n in
the variance of a mean by 1 / n + `correction`, the number of test images divided by that of training images. It also
serves k folds with several seeds (Bouckaert and Frank, PAKDD 2004). A correction of 0 leaves Student's t as it is.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy.stats takes a second to load, and is loaded when first used

Values = Sequence[float] | np.ndarray

LEVEL = 0.05
EXACT_SEEDS = 20  # up to this many pairs, all sign flips are counted: half a million sums, 20 ms
DRAWN_FLIPS = 99_999  # with more pairs, this many are drawn
NO_SPREAD = 1e-12  # a smaller standard deviation is rounding: accuracies are counts over images


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. There is no interval if all values are equal: one of no width would claim certainty."""

    n: int
    mean: float
    std: float | None = None  # with n − 1 in the denominator; None if n is 1
    low: float | None = None  # 95 % interval of the mean by Student's t
    high: float | None = None

    def compute_bounds(self, *, share: bool = True, lowest: float = 0.0) -> tuple[float | None, float | None]:
        """The interval. That of a share is cut at `lowest` and 1, because the t-distribution ignores these limits."""
        if not share or self.low is None or self.high is None:
            return self.low, self.high
        return max(lowest, self.low), min(1.0, self.high)


@dataclass(frozen=True)
class Difference:
    """The result of comparing two groups of measurements, the first minus the second."""

    mean: float
    low: float | None = None  # 95 % interval; None if there are too few values, or all are equal
    high: float | None = None
    p_t: float | None = None  # paired t-test, corrected for folds, or Welch's t-test
    p_flip: float | None = None  # exact sign-flip test; None without independent pairs
    effect: float | None = None  # Cohen's d_z of pairs, or Hedges' g; None if all values are equal


def estimate(values: Values, correction: float = 0.0) -> Estimate:
    """Mean, spread and interval of at least one value."""
    sample = np.asarray(values, dtype=np.float64)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Estimate(n, mean)
    std = float(sample.std(ddof=1))
    if std < NO_SPREAD:
        return Estimate(n, mean, 0.0)
    interval = scipy.stats.ttest_1samp(_widen(sample, correction), 0).confidence_interval(0.95)
    return Estimate(n, mean, std, float(interval.low), float(interval.high))


def compare_pairs(first: Values, second: Values) -> Difference:
    """Compare paired values; at least one pair."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    differences = a - b
    mean, p_flip = float(differences.mean()), compute_sign_flip_p(differences)
    std = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if std < NO_SPREAD:
        return Difference(mean, p_flip=p_flip)
    return _run_t_test(scipy.stats.ttest_rel, a, b, mean=mean, p_flip=p_flip, effect=mean / std)


def compare_folds(first: Values, second: Values, correction: float) -> Difference:
    """Compare values of the same folds by the corrected resampled t-test; at least one pair."""
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = estimate(differences, correction)
    if not found.std:
        return Difference(found.mean)
    p = float(scipy.stats.ttest_1samp(_widen(differences, correction), 0).pvalue)
    return Difference(found.mean, found.low, found.high, p)


def _widen(values: np.ndarray, correction: float) -> np.ndarray:
    """Stretch the values about their mean until its usual variance equals the corrected one."""
    if not correction:
        return values
    mean: np.ndarray = values.mean()
    return mean + (values - mean) * math.sqrt(1 + len(values) * correction)


def compare_samples(first: Values, second: Values) -> Difference:
    """Compare two independent samples, which may differ in size and spread, by Welch's t-test."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2 or max(a.std(ddof=1), b.std(ddof=1)) < NO_SPREAD:
        return Difference(mean)
    return _run_t_test(scipy.stats.ttest_ind, a, b, mean=mean, effect=_compute_hedges_g(a, b), equal_var=False)


def _run_t_test(
    test: Any, a: np.ndarray, b: np.ndarray, *, mean: float, effect: float, p_flip: float | None = None, **options: bool
) -> Difference:
    # scipy warns that values are nearly equal; those that differ only by rounding never get here.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        result = test(a, b, **options)
    interval = result.confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high), float(result.pvalue), p_flip, effect)


def _compute_hedges_g(a: np.ndarray, b: np.ndarray) -> float:
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    # The last factor corrects the bias of small samples (Hedges, 1981).
    return float((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * freedom - 1)))


def compute_sign_flip_p(differences: Values) -> float:
    """The exact sign-flip test: if the two sides of each pair could be swapped, how often is the sum as far from 0?

    It assumes nothing about the distribution of the differences. The smallest p-value of n pairs is 2 / 2^n.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) > EXACT_SEEDS:
        drawn = scipy.stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=DRAWN_FLIPS, rng=np.random.default_rng(0)
        )
        return float(drawn.pvalue)
    # All 2^n choices of signs; `scipy.stats.permutation_test` gives the same result in 300 times the time.
    sums = values[:1]  # the test is symmetric, so the first sign may stay
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    observed = abs(values.sum())
    tolerance = 1e-9 * np.abs(values).sum()  # equal sums may differ in their last bits
    return float(np.mean(np.abs(sums) >= observed - tolerance))


def compute_equivalence_p(differences: Values, delta: float, correction: float = 0.0) -> float | None:
    """Two one-sided paired t-tests (Schuirmann, 1987): p < 0.05 shows a mean difference between −delta and delta.

    None for a single pair, or if all differences are equal.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or values.std(ddof=1) < NO_SPREAD:
        return None
    values = _widen(values, correction)
    above = scipy.stats.ttest_1samp(values, -delta, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(values, delta, alternative="less").pvalue
    return float(max(above, below))


def compute_mcnemar_p(only_first: int, only_second: int) -> float:
    """The exact McNemar test: are the images that only one of two networks gets right split evenly between them?"""
    discordant = only_first + only_second
    return float(scipy.stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def correct_by_holm(values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's method, which keeps the chance of any false finding among them at 5 % or less."""
    array = np.asarray(values, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    scaled = np.minimum(1.0, np.arange(len(array), 0, -1) * array[order])
    corrected = np.empty_like(array)
    # The maximum keeps the order: a larger p-value may not become the smaller one.
    corrected[order] = np.maximum.accumulate(scaled)
    return corrected.tolist()


def find_least_p(n: int) -> float:
    """The smallest p-value that the sign-flip test of n pairs can give."""
    return min(1.0, 2.0 / 2**n)


def find_least_seeds(others: Sequence[float] = ()) -> int:
    """The fewest pairs for which the sign-flip test can give p < 0.05 after Holm's correction.

    Args:
        others: the uncorrected p-values of the other comparisons of the family.
    """
    n = 1
    while correct_by_holm([find_least_p(n), *others])[0] >= LEVEL:
        n += 1
    return n
