"""How many seeds would find a difference, from the spread of those that were run.

Power is computed for normally distributed differences. The spread of few seeds is uncertain, so each number of seeds
comes with those for the ends of the 95 % interval of the spread.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from cnnbench.config.seeds import sort_seeds
from cnnbench.metrics.sequential import count_pairs
from cnnbench.report.comparing import choose_baseline, pair_groups
from cnnbench.report.groups import Group
from cnnbench.report.statistics import LEVEL, NO_SPREAD, find_least_seeds
from cnnbench.report.study import Study

POWER = 0.8
MOST_SEEDS = 1000  # more would not be run
MOST_FLIPPED = 12  # seeds; with more, the sign-flip test needs as many as the t-test, give or take one
DRAWN = 1000  # cases in which a simulated test is tried


@dataclass(frozen=True)
class Need:
    """The seeds with which a test finds the difference in 80 % of cases; infinite beyond `MOST_SEEDS`."""

    test: str
    seeds: float
    low: float  # for the ends of the interval of the spread
    high: float
    minutes: float | None  # to train the seeds that are missing, one run at a time; None if no run has its time


@dataclass(frozen=True)
class Plan:
    """The plan of a comparison."""

    a: str
    b: str  # empty if there is only one group, which then takes both places
    n: int  # pairs of seeds, or seeds if nothing is paired
    spread: tuple[float, float, float]  # the standard deviation of a difference, with its 95 % interval
    needs: Sequence[Need]
    correlation: float | None = None  # of paired seeds; None without pairs or without spread
    correlation_interval: tuple[float, float] | None = None  # needs four pairs
    saved: float | None = None  # the share of a difference's variance that pairing removes; negative if it adds to it


def plan_seeds(study: Study, difference: float, baseline: str | None = None) -> list[Plan]:
    """A plan for each comparison of groups with two seeds or more; of a single group, one with another like it.

    Args:
        difference: to find, as a share.

    Raises:
        ValueError: no group has two seeds with an accuracy, or their accuracies have no spread.
    """
    groups = [group for group in study.measured if len(group.accuracy) > 1]
    if not groups:
        raise ValueError(
            "the spread is not known, because no group has two seeds with an accuracy: run more, such as sweep.seeds=5"
        )
    if any(group.folds for group in groups):
        raise ValueError(
            "the runs are folds of a cross-validation, which share training images: more of them would add little. "
            "plan needs runs of sweep.seeds=N"
        )
    chosen, is_named = choose_baseline(groups, baseline)
    assert chosen is not None
    pairs: list[tuple[Group, Group | None]] = [*pair_groups(groups, chosen, all_pairs=not is_named)] or [(chosen, None)]
    plans = [plan for a, b in pairs if (plan := _plan_pair(a, b, difference, len(pairs))) is not None]
    if not plans:
        raise ValueError("the spread is not known, because all seeds have the same accuracy")
    return plans


def _plan_pair(a: Group, b: Group | None, difference: float, comparisons: int) -> Plan | None:
    """The plan of a comparison; None if the seeds have no spread."""
    first, second = a.accuracy, (b or a).accuracy
    shared = sort_seeds(first.keys() & second.keys()) if b else []
    variances = [float(np.var(list(values.values()), ddof=1)) for values in (first, second)]
    correlation = interval = saved = None
    if len(shared) > 1:
        x, y = (np.array([values[seed] for seed in shared]) for values in (first, second))
        n, variance = len(shared), float((x - y).var(ddof=1))
        if min(x.std(), y.std()) > NO_SPREAD:
            correlation = float(np.corrcoef(x, y)[0, 1])
            interval = _find_correlation_interval(correlation, n)
            saved = 1 - variance / float(x.var(ddof=1) + y.var(ddof=1))
    else:
        n, variance = min(len(first), len(second)), sum(variances)
    if variance < NO_SPREAD**2:
        return None
    spread = math.sqrt(variance)
    low, high = (spread * math.sqrt((n - 1) / scipy.stats.chi2.ppf(level, n - 1)) for level in (0.975, 0.025))
    seconds = [list(group.collect_figures("train_seconds").values()) for group in (a, b or a)]
    cost = sum(sum(own) / len(own) for own in seconds) / 60 if all(seconds) else None  # minutes for a seed
    needs = []
    for test, count in TESTS.items():
        fewest, seeds, most = (count(difference / value, comparisons) for value in (low, spread, high))
        minutes = None if cost is None or math.isinf(seeds) else max(0.0, seeds - n) * cost
        needs.append(Need(test, seeds, fewest, most, minutes))
    label = b.label if b else ""
    return Plan(a.label, label, n, (spread, low, high), needs, correlation, interval, saved)


def _find_correlation_interval(correlation: float, n: int) -> tuple[float, float] | None:
    """The 95 % interval by Fisher's transformation."""
    if n < 4 or abs(correlation) >= 1:
        return None
    middle, width = math.atanh(correlation), scipy.stats.norm.ppf(1 - LEVEL / 2) / math.sqrt(n - 3)
    return math.tanh(middle - width), math.tanh(middle + width)


def count_seeds_of_t_test(effect: float, comparisons: int) -> float:
    """The seeds of the paired t-test; its level is divided by the number of comparisons, the worst case of Holm's.

    Args:
        effect: the difference in standard deviations.
    """
    level = LEVEL / comparisons

    def is_enough(n: int) -> bool:
        critical = scipy.stats.t.ppf(1 - level / 2, n - 1)
        return bool(scipy.stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) >= POWER)

    counts = range(2, MOST_SEEDS + 1)
    place = bisect_left(counts, True, key=is_enough)  # more seeds never have less power
    return counts[place] if place < len(counts) else math.inf


def count_seeds_of_sign_flip(effect: float, comparisons: int) -> float:
    """The seeds of the sign-flip test with Holm's correction, if the other comparisons show nothing."""
    least, by_t = find_least_seeds([1.0] * (comparisons - 1)), count_seeds_of_t_test(effect, comparisons)
    if by_t > MOST_FLIPPED:
        return max(least, by_t)
    for n in range(least, MOST_FLIPPED + 1):
        values = np.random.default_rng(0).normal(effect, 1, (DRAWN, n))
        # All choices of signs but for the first, which may stay because the test is symmetric.
        bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
        sums = values @ (1 - 2 * bits).T
        ps = np.mean(np.abs(sums) >= np.abs(values.sum(1, keepdims=True)) - 1e-9, axis=1)
        if np.mean(ps * comparisons < LEVEL) >= POWER:
            return n
    return MOST_FLIPPED + 1


def count_seeds_of_anytime_test(effect: float, comparisons: int) -> float:
    """The seeds after which the anytime test has found the difference in 80 % of simulated cases."""
    length = 50
    while True:
        paths = np.random.default_rng(0).normal(effect, 1, (DRAWN, length))
        found = float(np.quantile(count_pairs(paths, comparisons), POWER, method="higher"))
        if math.isfinite(found) or length == MOST_SEEDS:
            return found
        length = min(MOST_SEEDS, 3 * length)


TESTS: dict[str, Callable[[float, int], float]] = {
    "sign-flip, Holm": count_seeds_of_sign_flip,
    "paired t": count_seeds_of_t_test,
    "anytime": count_seeds_of_anytime_test,
}
