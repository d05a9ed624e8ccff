"""Estimates and tests of a few repeated measurements: what is asked of scipy, and what its answers mean.

Accuracies are shares (0 to 1) throughout. Each test is two-sided; a test that the numbers do not allow gives None.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

Values = Sequence[float] | np.ndarray

LEVEL = 0.05
EXACT_SEEDS = 20  # up to so many pairs all sign flips are counted: half a million sums, 20 ms
DRAWN_FLIPS = 99_999  # beyond, so many are drawn
NO_SPREAD = 1e-12  # a standard deviation below this is rounding: accuracies are counts over images


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        n: seeds.
        std: standard deviation with n − 1 in the denominator; None where n is 1.
        low, high: 95 % interval of the mean by Student's t; None where n is 1 or nothing varies, for then there is no
            spread to reckon one from, and one of no width would claim to be certain.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None

    @property
    def share_bounds(self) -> tuple[float, float] | tuple[None, None]:
        """The interval of a share, such as an accuracy: it ends at 0 and 1, which the t-distribution does not know."""
        if self.low is None or self.high is None:
            return None, None
        return max(0.0, self.low), min(1.0, self.high)


@dataclass(frozen=True)
class Difference:
    """What the tests say of two groups of measurements, the first minus the second.

    Attributes:
        mean, low, high: the difference of means and its 95 % interval; None where too few values allow one, or nothing
            varies.
        p_t: paired t-test, or Welch's.
        p_flip: exact sign-flip test of the pairs; None where there are no pairs.
        effect: Cohen's d_z of pairs, or Hedges' g; None where nothing varies.
    """

    mean: float
    low: float | None
    high: float | None
    p_t: float | None
    p_flip: float | None
    effect: float | None


def estimate(values: Values) -> Estimate:
    """Mean, spread and interval of at least one value."""
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Estimate(n, mean, None, None, None)
    std = float(sample.std(ddof=1))
    if std < NO_SPREAD:
        return Estimate(n, mean, 0.0, None, None)
    interval = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    return Estimate(n, mean, std, float(interval.low), float(interval.high))


def paired(first: Values, second: Values) -> Difference:
    """Compare values that belong together one by one, at least one pair."""
    from scipy import stats

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    differences = a - b
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return Difference(mean, None, None, None, sign_flip(differences), None)
    std = float(differences.std(ddof=1))
    if std < NO_SPREAD:
        return Difference(mean, None, None, None, sign_flip(differences), None)
    with _unwarned():
        test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return Difference(mean, low, high, float(test.pvalue), sign_flip(differences), mean / std)


def welch(first: Values, second: Values) -> Difference:
    """Compare two independent samples, which may differ in size and spread."""
    from scipy import stats

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Difference(mean, None, None, None, None, None)
    if max(a.std(ddof=1), b.std(ddof=1)) < NO_SPREAD:
        return Difference(mean, None, None, None, None, None)
    with _unwarned():
        test = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high), float(test.pvalue), None, _hedges(a, b))


def sign_flip(differences: Values) -> float:
    """The exact sign-flip test: were the two sides of each pair exchangeable, how often would the sum be as far from 0?

    All 2^n ways to flip signs are counted up to 20 pairs, where `scipy.stats.permutation_test` gives the same and takes
    300 times as long; beyond, scipy draws 99,999 of them from a fixed seed. No shape of the differences is assumed.
    With n pairs the smallest p-value there is is 2 / 2^n.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if len(values) > EXACT_SEEDS:
        drawn = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=DRAWN_FLIPS, rng=np.random.default_rng(0)
        )
        return float(drawn.pvalue)
    sums = values[:1]  # by symmetry the first sign may stay
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    observed = abs(values.sum())
    tolerance = 1e-9 * np.abs(values).sum()  # equal sums, added up in another order
    return float(np.mean(np.abs(sums) >= observed - tolerance))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact McNemar test: are the images that only one of two networks gets right shared out evenly?

    Args:
        only_first, only_second: images that only the first, or only the second, classifies correctly.
    """
    from scipy import stats

    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction: with p-values so enlarged, the chance of any false finding in the family is at most 5 %."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def least_p(n: int) -> float:
    """The smallest p-value that the sign-flip test of n pairs can give."""
    return min(1.0, 2.0 / 2**n)


def seeds_needed(others: Sequence[float] = ()) -> int:
    """The fewest pairs with which the sign-flip test can give p < 0.05 after Holm's correction.

    Args:
        others: the p-values of the other comparisons of the family, as they are.
    """
    n = 1
    while holm([least_p(n), *others])[0] >= LEVEL:
        n += 1
    return n


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without scipy's warning that values are nearly equal: what is only rounding never gets here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _hedges(a: np.ndarray, b: np.ndarray) -> float:
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    return float((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * freedom - 1)))
