"""The rule that turns effects into a verdict, by the report's own statistics.

A contrast is supported if the 95 % interval of its effect lies wholly on the threshold's right side, refuted if wholly
on the wrong one, else inconclusive: the absence of a difference refutes nothing.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import scipy

from cnnbench.claims.statement import Contrast, Effect, GroupSet
from cnnbench.report.statistics import LEVEL, NO_SPREAD, compare_pairs, correct_by_holm, find_least_seeds

VERDICTS = SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"
MOST_SEEDS = 1000  # more would not be run
LEAST_SEEDS = find_least_seeds()  # without spread, the sign-flip test decides
Obstacle = Literal["no_result", "missing_seeds", "one_seed", "equal_seeds", "at_threshold", "few_seeds"]


@dataclass(frozen=True)
class Judgement:
    """What the runs say about a contrast."""

    contrast: Contrast
    verdict: str
    effect: float | None = None  # the mean over seeds; None without a single pair
    low: float | None = None  # its 95 % interval; equal to the effect where that is exact; None where there is none
    high: float | None = None
    p: float | None = None  # of the test that the effect lies at the nearest bound of the rule
    n: int = 0  # seeds
    obstacle: Obstacle | None = None  # why it is inconclusive
    seeds_needed: int | None = None  # what would decide it, if mean and spread stayed; None if more than `MOST_SEEDS`


def summarise_set(chosen: GroupSet, values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The number that represents a set, by seed, for the seeds of which all its groups have a finite value.

    Args:
        values: the measure by group and seed.
    """
    summarise: dict[str, Callable[[list[float]], float]] = {
        "mean": lambda found: sum(found) / len(found),
        "highest": max,
        "lowest": min,
        "spread": lambda found: max(found) - min(found),
    }
    known = ({seed for seed, value in values[group].items() if math.isfinite(value)} for group in chosen.groups)
    seeds = sorted(set.intersection(*known))
    return {seed: summarise[chosen.take]([values[group][seed] for group in chosen.groups]) for seed in seeds}


def compute_effects(contrast: Effect, values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The effect by seed, for the seeds that every group has.

    Args:
        values: the measure by group and seed.
    """
    seeds = sorted(set.intersection(*({*values[group]} for group in contrast.groups)))

    def compute(group: str, against: str | None, seed: int) -> float:
        first = values[group][seed]
        if against is None:
            return first
        second = values[against][seed]
        if contrast.compare == "difference":
            return first - second
        return first / second if second else math.copysign(math.inf, first)

    than = contrast.than
    effects = {
        seed: compute(contrast.group, contrast.against, seed)
        - (compute(than.group, than.against, seed) if than else 0.0)
        for seed in seeds
    }
    return {seed: effect for seed, effect in effects.items() if math.isfinite(effect)}


def judge_contrast(contrast: Contrast, effects: Sequence[float], seeds: int = 0) -> Judgement:
    """Judge a contrast by its effects, one for each seed.

    Args:
        seeds: of the protocol. If some have no effect, nothing is decided: those whose runs failed or diverged are not
            a random part, so the others alone would be biased.
    """
    if not effects:
        return Judgement(contrast, INCONCLUSIVE, obstacle="no_result")
    if contrast.is_exact:
        effect = effects[0]  # the same for every seed
        verdict = REFUTED if _fails(contrast, effect, effect) else SUPPORTED  # at the threshold it holds
        return Judgement(contrast, verdict, effect, effect, effect, 0.0, 1)
    n, mean = len(effects), sum(effects) / len(effects)
    two_sided = contrast.rule in ("within", "beyond")
    bound = math.copysign(contrast.threshold, mean) if two_sided else contrast.threshold  # the nearest one
    found = compare_pairs(effects, [bound] * n)
    effect = found.mean + bound
    if found.low is None or found.high is None:  # one seed, or no spread
        low, high, p = effect, effect, found.p_flip
        is_clear = p is not None and p < LEVEL and abs(found.mean) > NO_SPREAD
    else:
        low, high, p = found.low + bound, found.high + bound, found.p_t
        is_clear = True
    verdict = INCONCLUSIVE
    if is_clear and n >= seeds and _holds(contrast, low, high):
        verdict = SUPPORTED
    elif is_clear and n >= seeds and _fails(contrast, low, high):
        verdict = REFUTED
    obstacle: tuple[Obstacle | None, int | None] = (None, None)
    if n < seeds:
        obstacle = "missing_seeds", seeds
    elif verdict == INCONCLUSIVE:
        spread = found.mean / found.effect if found.effect else 0.0  # d_z is the mean divided by the spread
        obstacle = _find_obstacle(abs(found.mean), spread, n)
    return Judgement(contrast, verdict, effect, low if n > 1 else None, high if n > 1 else None, p, n, *obstacle)


def combine(judgements: Sequence[Judgement]) -> str:
    """The verdict of a claim: all contrasts must hold.

    Support is an intersection–union test, whose error does not grow with the number of contrasts. One refuted contrast
    refutes the claim, so their p-values are corrected by Holm's method.
    """
    if all(judgement.verdict == SUPPORTED for judgement in judgements):
        return SUPPORTED
    corrected = correct_by_holm([1.0 if judgement.p is None else judgement.p for judgement in judgements])
    refuted = [judgement.verdict == REFUTED and p < LEVEL for judgement, p in zip(judgements, corrected, strict=True)]
    return REFUTED if any(refuted) else INCONCLUSIVE


def _holds(contrast: Contrast, low: float, high: float) -> bool:
    """Whether every effect from low to high keeps the rule."""
    threshold = contrast.threshold
    match contrast.rule:
        case "at_least":
            return low > threshold
        case "at_most":
            return high < threshold
        case "within":
            return -threshold < low and high < threshold
        case "beyond":
            return low > threshold or high < -threshold


def _fails(contrast: Contrast, low: float, high: float) -> bool:
    """Whether every effect from low to high breaks the rule."""
    opposite = {"at_least": "at_most", "at_most": "at_least", "within": "beyond", "beyond": "within"}
    return _holds(contrast.model_copy(update={"rule": opposite[contrast.rule]}), low, high)


def _find_obstacle(distance: float, spread: float, n: int) -> tuple[Obstacle, int | None]:
    """Why effects do not decide a contrast, and how many seeds would.

    Args:
        distance: of the mean from the threshold.
    """
    if n < 2:
        return "one_seed", LEAST_SEEDS
    if spread < NO_SPREAD:
        return ("equal_seeds", LEAST_SEEDS) if distance > NO_SPREAD else ("at_threshold", None)
    # The least number of seeds whose interval, with this spread, would not reach the threshold; coarser beyond 100.
    for seeds in itertools.chain(range(n + 1, 100), range(100, MOST_SEEDS + 1, 10)):
        if scipy.stats.t.ppf(1 - LEVEL / 2, seeds - 1) * spread / math.sqrt(seeds) < distance:
            return "few_seeds", seeds
    return "at_threshold", None
