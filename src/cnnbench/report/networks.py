"""Compare single networks image by image, which does not answer which group is better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnbench.config.seeds import sort_seeds
from cnnbench.report.comparing import NOT_SHOWN, Comparison
from cnnbench.report.groups import Group
from cnnbench.report.runs import Run
from cnnbench.report.statistics import LEVEL, compute_mcnemar_p, correct_by_holm

MORE_RIGHT, FEWER_RIGHT = "more of these images right", "fewer of these images right"


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test of two networks on the same test images.

    Attributes:
        a, b: the names of the runs; label_a, label_b: of their groups.
        images: test images of both.
        only_a, only_b: images that only one of them classifies correctly.
        p, p_holm: exact, and after Holm's correction over the McNemar tests of the study.
        verdict: whether network `a` gets more or fewer of these images right than chance explains.
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

    @property
    def is_significant(self) -> bool:
        """Whether the verdict is about a difference."""
        return self.verdict != NOT_SHOWN


def compare_networks(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> tuple[list[McNemar], list[str]]:
    """Compare two networks for each comparison of groups; in a study of one group with two runs, those two.

    Returns:
        The tests, and a sentence for each pair whose predictions cannot be compared.
    """
    tests, problems = [], []
    last: tuple[str, np.ndarray, np.ndarray] | None = None  # the baseline, which most comparisons need
    for a, b in _choose_networks(groups, comparisons):
        if a.test_set != b.test_set:
            continue  # another note says so
        try:
            if last is None or last[0] != b.name:
                last = (b.name, *_read_answers(b))
            tests.append(_compare(a, b, *_read_answers(a), *last[1:]))
        except (ValueError, OSError, KeyError) as error:
            problems.append(f"No McNemar test of {a.name} and {b.name}: {error}.")
    corrected = correct_by_holm([test.p for test in tests])
    return [_judge(test, p) for test, p in zip(tests, corrected, strict=True)], problems


def _choose_networks(groups: Sequence[Group], comparisons: Sequence[Comparison]) -> Iterator[tuple[Run, Run]]:
    by_label = {group.label: group for group in groups}
    for comparison in comparisons:
        yield choose_representatives(by_label[comparison.a], by_label[comparison.b])
    if not comparisons and [len(group.accuracy) for group in groups] == [2]:
        yield groups[0].runs[1], groups[0].runs[0]


def choose_representatives(a: Group, b: Group) -> tuple[Run, Run]:
    """A run of each group: those of the lowest seed that both have, or else the first runs."""
    runs_a, runs_b = ({run.seed: run for run in group.runs if run.has_classes} for group in (a, b))
    shared = sort_seeds(seed for seed in runs_a.keys() & runs_b.keys() if seed is not None)
    if shared:
        return runs_a[shared[0]], runs_b[shared[0]]
    return next(iter(runs_a.values())), next(iter(runs_b.values()))


def _read_answers(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of a run, (N,) each."""
    arrays = run.read_predictions()
    return arrays["labels"], arrays["predictions"]


def _compare(
    a: Run, b: Run, labels_a: np.ndarray, answers_a: np.ndarray, labels_b: np.ndarray, answers_b: np.ndarray
) -> McNemar:
    if not np.array_equal(labels_a, labels_b):
        raise ValueError("they were not tested on the same images")
    right_a, right_b = answers_a == labels_a, answers_b == labels_b
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return McNemar(a.name, b.name, a.group, b.group, len(right_a), only_a, only_b, compute_mcnemar_p(only_a, only_b))


def _judge(test: McNemar, p_holm: float) -> McNemar:
    verdict = NOT_SHOWN if p_holm >= LEVEL else MORE_RIGHT if test.only_a > test.only_b else FEWER_RIGHT
    return replace(test, p_holm=p_holm, verdict=verdict)
