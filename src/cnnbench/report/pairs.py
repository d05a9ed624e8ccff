"""Two groups (or two networks of one group) side by side, class by class and mistake by mistake."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnbench.metrics.confusion import DENSE
from cnnbench.report.class_charts import SHOWN_CLASSES, busiest, confusion_chart, confusion_difference, f1_chart
from cnnbench.report.comparing import p_text
from cnnbench.report.mistakes import Strip, strips
from cnnbench.report.networks import FEWER_RIGHT, MORE_RIGHT
from cnnbench.report.runs import Run
from cnnbench.report.study import Study
from cnnbench.report.study_charts import ranked
from cnnbench.report.svg import Chart, legible

MOST_PAIRS = 5


@dataclass
class Side:
    """One of the two: the runs whose counts are added up, and the network whose mistakes are shown."""

    label: str
    runs: list[Run]
    network: Run


@dataclass
class Pair:
    """What the page shows of two sides; of one alone, only its matrix."""

    name: str
    title: str
    matrices: list[Chart]
    f1: Chart | None = None
    networks: str = ""
    test: str = ""
    mistakes: list[Strip] = field(default_factory=list)


def pairs(study: Study) -> tuple[list[Pair], list[str]]:
    """The pairs that the page offers, and what could not be read.

    Each of the most accurate groups beside the baseline, and the two most accurate ones; of one group alone, its first
    two networks.
    """
    made, notes = [], []
    for number, sides in enumerate(_chosen(study), 1):
        try:
            made.append(_pair(study, f"pair-{number}", sides))
        except (ValueError, OSError) as error:
            notes.append(f"{' and '.join(side.label for side in sides)} are not shown side by side: {error}.")
    return made, notes


def _chosen(study: Study) -> list[list[Side]]:
    groups = ranked(study)
    if not groups:
        return []
    if len(groups) == 1:
        runs = groups[0].runs
        sides = [Side(f"{groups[0].label} seed={run.seed}", [run], run) for run in runs[:2]]
        return [sides]
    # Ranked groups begin with the baseline. Most accurate first: a reader sees that pair unless asked otherwise.
    wanted = [(groups[0], other) for other in groups[1:MOST_PAIRS]]
    if len(groups) > 2:
        wanted.append((groups[2], groups[1]))
    found = []
    for first, second in wanted[:MOST_PAIRS]:
        shared = sorted(first.accuracy.keys() & second.accuracy.keys())
        networks = [
            next((run for run in g.runs if shared and run.seed == shared[0]), g.runs[0]) for g in (first, second)
        ]
        found.append([Side(g.label, g.runs, run) for g, run in zip((first, second), networks, strict=True)])
    return found


def _pair(study: Study, name: str, sides: Sequence[Side]) -> Pair:
    classes, confusions, f1s = _counts(sides)
    chosen = busiest(confusions, SHOWN_CLASSES)
    matrices = [
        confusion_chart(f"{name}-{number}", legible(side.label, 80), confusion, classes, chosen)
        for number, (side, confusion) in enumerate(zip(sides, confusions, strict=True), 1)
    ]
    if len(sides) < 2:
        return Pair(name, legible(sides[0].label, 80), matrices)
    first, second = sides
    both = (confusions[0], confusions[1])
    matrices.append(confusion_difference(f"{name}-difference", first.label, second.label, both, classes, chosen))
    pair = Pair(name, f"{legible(first.label, 80)} and {legible(second.label, 80)}", matrices)
    pair.f1 = f1_chart(f"{name}-f1", (first.label, second.label), classes, (f1s[0], f1s[1]))
    seeds = [side.network.seed for side in sides]
    if first.network.test_set != second.network.test_set:
        return pair  # equal labels, other images
    labels = (first.label, second.label)
    runs = first.network, second.network
    pair.mistakes = strips(name, runs, labels, classes)
    names = " and ".join(f"run {legible(run.name, 60)}" for run in runs)
    pair.networks = f"two networks, {names}{f', both of seed {seeds[0]}' if seeds[0] == seeds[1] else ''}"
    pair.test = _mcnemar(study, sides)
    return pair


def _counts(sides: Sequence[Side]) -> tuple[list[str], list[np.ndarray], list[np.ndarray]]:
    """Class names; of each side the summed counts (K, K), and F1 by run and class (n, K).

    Raises:
        ValueError: classes differ, or are too many.
    """
    classes: list[str] | None = None
    confusions, f1s = [], []
    for side in sides:
        matrices = []
        for run in side.runs:
            names, matrix = run.confusion()
            if classes is not None and names != classes:
                raise ValueError(f"{run.name} has other classes")
            if not 1 < len(names) <= DENSE:
                raise ValueError(f"there are {len(names):,} classes: 2 to {DENSE:,} can be shown")
            classes = names
            matrices.append(matrix)
        confusions.append(sum(matrices[1:], matrices[0]))
        f1s.append(np.stack([_f1(matrix) for matrix in matrices]))
    assert classes is not None
    return classes, confusions, f1s


def _f1(confusion: np.ndarray) -> np.ndarray:
    right = np.diag(confusion)
    return 2 * right / np.maximum(confusion.sum(0) + confusion.sum(1), 1)


def _mcnemar(study: Study, sides: Sequence[Side]) -> str:
    """What the study says of the two networks, in words; empty where it tested others."""
    names = {side.network.name for side in sides}
    for test in study.mcnemar:
        if {test.a, test.b} == names:
            a = f"{legible(test.label_a, 80)} (run {legible(test.a, 60)})"
            b = f"{legible(test.label_b, 80)} (run {legible(test.b, 60)})"
            said = f"{a} has {test.verdict}" if test.verdict in (MORE_RIGHT, FEWER_RIGHT) else test.verdict
            p = p_text(test.p_holm)
            p = p if p.startswith("<") else f"= {p}"
            return (
                f"On {test.only_a:,} images only {a} is right, on {test.only_b:,} only {b}: {said} (McNemar’s exact "
                f"test, p {p} after Holm). This is about these two networks, and says nothing about the groups."
            )
    return ""
