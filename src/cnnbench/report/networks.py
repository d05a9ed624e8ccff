"""Networks against networks, image by image: another question than which group is better."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.report import statistics
from cnnbench.report.comparing import NOT_SHOWN, Comparison
from cnnbench.report.groups import Group
from cnnbench.report.runs import Run
from cnnbench.report.statistics import LEVEL

MORE_RIGHT, FEWER_RIGHT = "more of these images right", "fewer of these images right"


@dataclass
class McNemar:
    """Two networks on the same test images.

    Attributes:
        a, b: the names of the runs; label_a, label_b: of their groups.
        images: how many both were tested on.
        only_a, only_b: images that only one of them classifies correctly.
        p, p_holm: exact, and after Holm's correction over the McNemar tests of the study.
        verdict: whether network `a` gets more of these images right, or fewer, than chance explains.
    """

    a: str
    b: str
    label_a: str
    label_b: str
    images: int
    only_a: int
    only_b: int
    p: float
    p_holm: float = 1.0
    verdict: str = NOT_SHOWN


def mcnemar_tests(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> tuple[list[McNemar], list[str]]:
    """Two networks for each comparison of groups: the runs of the lowest seed in common, or the first runs.

    Of one group that has two runs, and nothing to be compared with, it is those two.
    """
    by_label = {group.label: group for group in groups}
    pairs = [_representatives(by_label[comparison.a], by_label[comparison.b]) for comparison in comparisons]
    if not pairs and [len(group.accuracy) for group in groups] == [2]:
        pairs = [(groups[0].runs[1], groups[0].runs[0])]
    made, notes = [], []
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # the baseline's, which every comparison needs
    for a, b in pairs:
        if a.test_set != b.test_set:
            continue  # the study has a note of that
        try:
            if b.name not in kept:
                kept = {b.name: _answers(b)}
            made.append(_mcnemar(a, b, _answers(a), kept[b.name]))
        except (ValueError, OSError, KeyError) as error:
            notes.append(f"No McNemar test of {a.name} and {b.name}: {error}.")
    for test, p in zip(made, statistics.holm([test.p for test in made]), strict=True):
        test.p_holm = p
        if p < LEVEL:
            test.verdict = MORE_RIGHT if test.only_a > test.only_b else FEWER_RIGHT
    return made, notes


def _representatives(a: Group, b: Group) -> tuple[Run, Run]:
    runs_a, runs_b = ({run.seed: run for run in group.runs if run.has_classes} for group in (a, b))
    shared = sorted(seed for seed in runs_a.keys() & runs_b.keys() if seed is not None)
    if shared:
        return runs_a[shared[0]], runs_b[shared[0]]
    return next(iter(runs_a.values())), next(iter(runs_b.values()))


def _answers(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of a run, (N,) each."""
    arrays = run.predictions()
    labels, predictions = arrays["labels"], arrays["predictions"]
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"{run.path / 'predictions.npz'} is damaged: labels and predictions do not go together")
    return labels, predictions


def _mcnemar(a: Run, b: Run, of_a: tuple[np.ndarray, np.ndarray], of_b: tuple[np.ndarray, np.ndarray]) -> McNemar:
    if not np.array_equal(of_a[0], of_b[0]):
        raise ValueError("they were not tested on the same images")
    right_a, right_b = of_a[1] == of_a[0], of_b[1] == of_b[0]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = statistics.mcnemar(only_a, only_b)
    return McNemar(a.name, b.name, a.group, b.group, len(right_a), only_a, only_b, p)
