"""Simulated claims through the real verdict code: how often is one supported or refuted wrongly?

    python tests/faults/claim_simulation.py

A thousand claims each of a true effect well above, at and well below the threshold, of six seeds and with a spread as
large as the threshold. At the threshold either clear verdict is wrong. Ends with 1 if more than 5 % are.
"""

import sys
from collections import Counter

import numpy as np

from cnnbench.claims.statement import Contrast
from cnnbench.claims.verdict import REFUTED, SUPPORTED, combine, judge_contrast

CLAIMS, SEEDS, THRESHOLD, MOST = 1000, 6, 0.01, 0.05
TEXT = {"en": "simulated", "pt": "simulado"}
TRUE = {
    "well above": (3 * THRESHOLD, {REFUTED}),
    "at": (THRESHOLD, {SUPPORTED, REFUTED}),
    "well below": (-THRESHOLD, {SUPPORTED}),
}


def simulate() -> int:
    """Print the verdicts for each true effect; 1 if one is wrong too often."""
    contrast = Contrast.model_validate(
        {"measure": "accuracy", "group": "a", "against": "b", "rule": "at_least", "threshold": THRESHOLD}
        | {"unit": "of 1", "reason": TEXT}
    )
    random, failed = np.random.default_rng(0), 0
    for name, (effect, wrong) in TRUE.items():
        drawn = random.normal(effect, THRESHOLD, (CLAIMS, SEEDS))
        found = Counter(combine([judge_contrast(contrast, effects.tolist())]) for effects in drawn)
        failed |= any(found[verdict] / CLAIMS > MOST for verdict in wrong)
        print(f"true effect {name} the threshold: {dict(sorted(found.items()))}")
    return failed


if __name__ == "__main__":
    sys.exit(simulate())
