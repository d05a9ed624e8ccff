"""How often the verdict of a claim is wrong, by simulation.

    python tests/faults/claim_simulation.py

The real verdict code judges a thousand simulated claims for each rule and true effect, and for combinations of three
contrasts: six seeds, normal differences, and a spread as large as the threshold. At the threshold either clear verdict
is wrong. The script prints a table, and exits with 1 if more than 5 % of a row are wrong. The last rows have skewed
differences, for which a t-interval of six seeds gives no guarantee; they do not count.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from cnnbench.claims.statement import Contrast
from cnnbench.claims.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, combine, judge_contrast

CLAIMS, SEEDS, THRESHOLD, MOST = 1000, 6, 0.01, 0.05
TEXT = {"en": "simulated", "pt": "simulado"}
ABOVE, AT, MIDDLE, BELOW = 3 * THRESHOLD, THRESHOLD, 0.0, -3 * THRESHOLD
NAMES = {ABOVE: "well above", AT: "at", MIDDLE: "zero", BELOW: "well below"}
# The true effects at which each rule holds; at the threshold none does, and none fails.
HOLDS = {
    "at_least": {ABOVE},
    "at_most": {MIDDLE, BELOW},
    "within": {MIDDLE},
    "beyond": {ABOVE, BELOW},
}
SEVERAL = ("at_least", "at_most", "beyond")  # the contrasts of one claim; the true effects of each follow
SEVERAL_EFFECTS = [
    (ABOVE, BELOW, ABOVE),  # all hold
    (ABOVE, BELOW, AT),
    (AT, AT, AT),
    (AT, BELOW, MIDDLE),
    (ABOVE, BELOW, MIDDLE),
    (BELOW, ABOVE, MIDDLE),  # all fail
]
Draw = Callable[[np.random.Generator, float], np.ndarray]


def draw_normal(random: np.random.Generator, effect: float) -> np.ndarray:
    """The differences by seed of many claims, (CLAIMS, SEEDS)."""
    return random.normal(effect, THRESHOLD, (CLAIMS, SEEDS))


def draw_skewed(random: np.random.Generator, effect: float) -> np.ndarray:
    """The same, exponentially distributed, with the same mean and spread."""
    return effect + random.exponential(THRESHOLD, (CLAIMS, SEEDS)) - THRESHOLD


def make_contrast(rule: str) -> Contrast:
    """A contrast with this rule."""
    return Contrast.model_validate(
        {"measure": "accuracy", "group": "a", "against": "b", "rule": rule, "threshold": THRESHOLD}
        | {"unit": "of 1", "reason": TEXT}
    )


def simulate_claims(random: np.random.Generator, rules: Sequence[str], effects: Sequence[float], draw: Draw) -> float:
    """Judge claims with some contrasts, print a row of the table, and return the share of wrong verdicts."""
    contrasts = [make_contrast(rule) for rule in rules]
    drawn = [draw(random, effect) for effect in effects]
    found = Counter(
        combine([judge_contrast(contrast, one) for contrast, one in zip(contrasts, claim, strict=True)])
        for claim in zip(*(each.tolist() for each in drawn), strict=True)
    )
    fail = any(e != AT and e not in HOLDS[rule] for rule, e in zip(rules, effects, strict=True))
    hold = all(e in HOLDS[rule] for rule, e in zip(rules, effects, strict=True))
    wrong = [verdict for verdict, right in ((SUPPORTED, hold), (REFUTED, fail)) if not right]
    counts = " | ".join(str(found[verdict]) for verdict in (SUPPORTED, INCONCLUSIVE, REFUTED))
    share = max(found[verdict] for verdict in wrong) / CLAIMS
    shape = "" if draw is draw_normal else ", skewed"
    print(
        f"| {', '.join(rules)}{shape} | {', '.join(NAMES[e] for e in effects)} | {counts} | {share:.1%} |", flush=True
    )
    return share


def simulate() -> int:
    """Print the verdicts for each rule and true effect; return 1 if one is wrong too often."""
    random = np.random.default_rng(0)
    print("| rules | true effects | supported | inconclusive | refuted | wrong |\n|---|---|--:|--:|--:|--:|")
    shares = [simulate_claims(random, [rule], [effect], draw_normal) for rule in HOLDS for effect in NAMES]
    shares += [simulate_claims(random, SEVERAL, effects, draw_normal) for effects in SEVERAL_EFFECTS]
    for rule in HOLDS:
        simulate_claims(random, [rule], [AT], draw_skewed)
    return int(max(shares) > MOST)


if __name__ == "__main__":
    sys.exit(simulate())
