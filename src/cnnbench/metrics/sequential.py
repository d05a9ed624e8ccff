"""A test of paired differences that may be read after each pair: better, worse, equal within δ, or undecided.

The test bets on the next difference (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 2024). A bettor who doubts that the mean is at most m starts with one unit of money and wins or loses
a share of it with each pair. If the mean is m, and the differences lie symmetrically around it, no strategy is
expected to win (Ramdas, Ruf, Larsson and Koolen, "Admissible anytime-valid sequential inference must rely on
nonnegative martingales", 2020; Vovk and Wang, "Nonparametric e-tests of symmetry", 2024). Therefore the money ever
reaches 1 / α with a probability of at most α, however often one looks (Ville's inequality), for any scale and tails.

Networks of equal accuracy that are trained with the same seeds are exchangeable, and so their differences are
symmetric. Differences with a skewed distribution are not covered by the theorem; the bets are chosen so that at most
5 % of the verdicts are false even for exponential ones. `benchmarks/sequential_null.py` measures both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["better", "worse", "equal", "undecided"]
BETTER: Verdict = "better"
WORSE: Verdict = "worse"
EQUAL: Verdict = "equal"
UNDECIDED: Verdict = "undecided"

LEVEL = 0.05  # of all verdicts together, over all pairs and comparisons
# A bet is linear in the difference, because linear bets suffer least from skewness: this share of the money for each
# standard deviation, less while few pairs estimate the deviation, and never so much that one pair can ruin the bettor.
SHARE, CAUTION, MOST = 0.35, 4.0, 0.9
FIRST = 0.3  # staked on the sign of the first difference, whose scale is unknown; more after differences of 0
MEAN_PART = 0.1  # of the squared mean counts as variance at first: one pair and equal differences have a scale too
STEPS = 40  # of a bisection: twelve digits


@dataclass(frozen=True)
class Reading:
    """What the test concludes after some pairs.

    Attributes:
        low, high: the confidence sequence, which contains the mean after every number of pairs, in all comparisons
            together, with a probability of 95 %; None while there is no bound.
    """

    verdict: Verdict  # of the first group against the second; the first one reached is final
    n: int  # pairs
    decided_at: int | None = None  # after how many pairs the verdict was reached; None while undecided
    mean: float | None = None  # of the differences; None without pairs
    low: float | None = None
    high: float | None = None

    @property
    def is_decided(self) -> bool:
        """Whether more pairs cannot change the verdict."""
        return self.verdict != UNDECIDED


def decide(differences: Sequence[float], *, delta: float | None = None, comparisons: int = 1) -> Reading:
    """Read the test after these pairs.

    Args:
        differences: the first group's share minus the second's, one for each seed, in the order of the seeds. The test
            looks after each of them, so that the order matters.
        delta: differences up to this share count as equal; without it, nothing is called equal.
        comparisons: how many are judged together, fixed before the first pair; Bonferroni's correction.

    Raises:
        ValueError: a difference is not finite, or an argument is out of its range.
    """
    values = np.asarray(differences, dtype=np.float64)
    verdict, decided_at = find_verdict(values, delta=delta, comparisons=comparisons)
    if not len(values):
        return Reading(verdict, 0)
    rates, goal = _choose_rates(values), _find_goal(comparisons)
    low, below = _find_bound(values, rates, goal), _find_bound(-values, rates, goal)
    high = None if below is None else -below
    return Reading(verdict, len(values), decided_at, float(values.mean()), low, high)


def find_verdict(values: np.ndarray, *, delta: float | None = None, comparisons: int = 1) -> tuple[Verdict, int | None]:
    """The first verdict that these pairs reach, and after how many; as `decide`, without the interval."""
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"delta={delta}: must be a share above 0 and below 1, such as 0.001 for 0.1 points")
    if comparisons < 1:
        raise ValueError(f"comparisons={comparisons}: must be at least 1")
    if not np.isfinite(values).all():
        raise ValueError("a difference is not a finite number")
    rates, goal = _choose_rates(values), _find_goal(comparisons)
    reached: dict[Verdict, int | None] = {
        BETTER: _find_first(values, rates, 0.0, goal),
        WORSE: _find_first(-values, rates, 0.0, goal),
    }
    if delta is not None:
        above, below = _find_first(values, rates, -delta, goal), _find_first(-values, rates, -delta, goal)
        reached[EQUAL] = None if above is None or below is None else max(above, below)
    decided = {verdict: pairs for verdict, pairs in reached.items() if pairs is not None}
    verdict = min(decided, key=lambda one: decided[one], default=UNDECIDED)
    return verdict, decided.get(verdict)


def count_pairs(paths: np.ndarray, comparisons: int = 1) -> np.ndarray:
    """After how many pairs the first group of each row is found to be better, (rows,); infinite where it never is."""
    reached = _grow(paths, _choose_rates(paths), 0.0) >= _find_goal(comparisons)
    return np.where(reached.any(-1), reached.argmax(-1) + 1.0, math.inf)


def find_least_pairs(comparisons: int = 1) -> int:
    """The fewest pairs after which a verdict is possible."""
    return 1 + math.ceil((_find_goal(comparisons) - math.log1p(FIRST)) / math.log1p(MOST))


def _find_goal(comparisons: int) -> float:
    # Two bettors, one for each direction, share the level; a verdict of equality needs one of each.
    return math.log(2 * comparisons / LEVEL)


def _choose_rates(values: np.ndarray) -> np.ndarray:
    """The share of the money staked for each unit of a difference; infinite while the scale is unknown."""
    # From the pairs before it alone: a stake that knew the difference could always win.
    before = np.arange(1, values.shape[-1])
    sums, squares = np.cumsum(values, -1)[..., :-1], np.cumsum(values**2, -1)[..., :-1]
    means = sums / before
    variances = (np.maximum(squares - sums * means, 0) + MEAN_PART * means**2) / before
    rates = np.full_like(values, math.inf)
    with np.errstate(divide="ignore"):
        rates[..., 1:] = SHARE / (np.sqrt(variances) * (1 + CAUTION / before))
    return rates


def _grow(values: np.ndarray, rates: np.ndarray, mean: float) -> np.ndarray:
    """The logarithm of the money after each pair, of a bettor who bets that the mean is above this one."""
    distances, known, before = values - mean, np.isfinite(rates), np.arange(values.shape[-1])
    by_sign = np.maximum(FIRST, MOST * before / (before + 1)) * np.sign(distances)
    stakes = np.where(known, np.clip(np.where(known, rates, 0) * distances, -MOST, MOST), by_sign)
    return np.cumsum(np.log1p(stakes), -1)


def _find_first(values: np.ndarray, rates: np.ndarray, mean: float, goal: float) -> int | None:
    """After how many pairs the mean is known to be above this one."""
    reached = np.flatnonzero(_grow(values, rates, mean) >= goal)
    return int(reached[0]) + 1 if len(reached) else None


def _find_bound(values: np.ndarray, rates: np.ndarray, goal: float) -> float | None:
    """The largest number that the mean is known to be above; None if there is none yet, or all differences are 0."""
    finite = rates[np.isfinite(rates)]
    if not len(finite):
        return None
    # Money falls as the mean that is bet against rises, so a bisection finds where it reaches the goal. At `low`, every
    # stake is at its limit; at `high`, none wins.
    low, high = float(values.min() - MOST / finite.min()), float(values.max())
    if _grow(values, rates, low).max() < goal:
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _grow(values, rates, middle).max() >= goal:
            low = middle
        else:
            high = middle
    return low
