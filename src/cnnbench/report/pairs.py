"""Two groups (or two networks of one group) side by side, class by class and mistake by mistake."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnbench.metrics import compute_f1
from cnnbench.metrics.confusion import DENSE
from cnnbench.report.charts import chart_f1
from cnnbench.report.formatting import make_legible
from cnnbench.report.matrices import chart_confusion, chart_confusion_difference, choose_classes
from cnnbench.report.mistakes import Strip, make_strips
from cnnbench.report.networks import McNemar, choose_representatives
from cnnbench.report.runs import Run
from cnnbench.report.study import Study
from cnnbench.report.svg import Chart
from cnnbench.runs.contents import read_confusion

MOST_PAIRS = 5


@dataclass(frozen=True)
class Side:
    """One side of a pair: the runs whose counts are summed, and the network whose mistakes are shown."""

    label: str
    runs: Sequence[Run]
    network: Run


@dataclass
class Pair:
    """Two sides as the page shows them; a single side has only a matrix."""

    name: str
    sides: Sequence[Side]
    matrices: list[Chart]
    f1: Chart | None = None
    test: McNemar | None = None  # of the two networks, if the study has one
    mistakes: list[Strip] = field(default_factory=list)  # none if the networks were tested on different images


def make_pairs(study: Study) -> tuple[list[Pair], list[str]]:
    """The pairs that the page offers, and a sentence for each that cannot be read.

    The most accurate groups beside the baseline, and the two most accurate ones; of one group alone, its first two
    networks.
    """
    pairs, problems = [], []
    for number, sides in enumerate(_choose_sides(study), 1):
        try:
            pairs.append(_make_pair(study, f"pair-{number}", sides))
        except (ValueError, OSError) as error:
            labels = " and ".join(side.label for side in sides)
            problems.append(f"{labels} are not shown side by side: {error}.")
    return pairs, problems


def _choose_sides(study: Study) -> list[list[Side]]:
    groups = study.ranked
    if len(groups) < 2:
        return [[Side(f"{group.label} seed={run.seed}", [run], run) for run in group.runs[:2]] for group in groups]
    # The baseline and the most accurate group come first: the page shows that pair until another is chosen.
    chosen = [(groups[0], other) for other in groups[1:MOST_PAIRS]]
    if len(groups) > 2:
        chosen.append((groups[2], groups[1]))
    return [
        [
            Side(group.label, group.runs, network)
            for group, network in zip(two, choose_representatives(*two), strict=True)
        ]
        for two in chosen[:MOST_PAIRS]
    ]


def _make_pair(study: Study, name: str, sides: Sequence[Side]) -> Pair:
    classes, confusions, f1s = _read_counts(sides)
    chosen = choose_classes(confusions)
    matrices = [
        chart_confusion(f"{name}-{number}", make_legible(side.label, 80), confusion, classes, chosen)
        for number, (side, confusion) in enumerate(zip(sides, confusions, strict=True), 1)
    ]
    pair = Pair(name, sides, matrices)
    if len(sides) < 2:
        return pair
    labels, networks = (sides[0].label, sides[1].label), (sides[0].network, sides[1].network)
    matrices.append(chart_confusion_difference(f"{name}-difference", labels, confusions, classes, chosen))
    pair.f1 = chart_f1(f"{name}-f1", labels, classes, f1s)
    if networks[0].test_set == networks[1].test_set:  # the labels may be equal although the images are others
        pair.mistakes = make_strips(name, networks, labels, classes)
        names = {run.name for run in networks}
        pair.test = next((test for test in study.mcnemar if {test.a, test.b} == names), None)
    return pair


def _read_counts(sides: Sequence[Side]) -> tuple[list[str], list[np.ndarray], list[np.ndarray]]:
    """Class names; of each side the summed counts (K, K), and F1 by run and class (n, K).

    Raises:
        ValueError: classes differ, or are too many.
    """
    classes: list[str] | None = None
    confusions, f1s = [], []
    for side in sides:
        matrices = []
        for run in side.runs:
            names, matrix = read_confusion(run.path)
            if classes is not None and names != classes:
                raise ValueError(f"{run.name} has other classes")
            if not 1 < len(names) <= DENSE:
                raise ValueError(f"there are {len(names):,} classes: 2 to {DENSE:,} can be shown")
            classes = names
            matrices.append(matrix)
        confusions.append(sum(matrices[1:], matrices[0]))
        f1s.append(np.stack([compute_f1(matrix) for matrix in matrices]))
    assert classes is not None
    return classes, confusions, f1s
