"""Compare single networks image by image, which does not answer which group is better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from cnnbench.config.seeds import sort_seeds
from cnnbench.report.comparing import NOT_SHOWN, Comparison
from cnnbench.report.groups import Group
from cnnbench.report.runs import Run
from cnnbench.report.statistics import LEVEL, compute_mcnemar_p, correct_by_holm
from cnnbench.runs.contents import read_predictions

MORE_RIGHT, FEWER_RIGHT = "more of these images right", "fewer of these images right"


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test of two networks on the same test images."""

    a: str  # the names of the runs
    b: str
    label_a: str  # of their groups
    label_b: str
    images: int
    only_a: int  # images that only one of them classifies correctly
    only_b: int
    p: float
    p_holm: float = 1.0  # after Holm's correction over the McNemar tests of the study
    verdict: str = NOT_SHOWN  # whether `a` gets more or fewer of these images right than chance explains

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
    read = lru_cache(maxsize=2)(_read_answers)  # most comparisons need the baseline's again
    for a, b in _choose_networks(groups, comparisons):
        if a.test_set != b.test_set:
            continue  # another note says so
        try:
            (labels_b, right_b), (labels_a, right_a) = read(b.path), read(a.path)
        except (ValueError, OSError, KeyError) as error:
            problems.append(f"No McNemar test of {a.name} and {b.name}: {error}.")
            continue
        # Equal hashes of the test sets are what the folders say, and these labels are the proof.
        if not np.array_equal(labels_a, labels_b):
            problems.append(f"No McNemar test of {a.name} and {b.name}: they were not tested on the same images.")
            continue
        only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        p = compute_mcnemar_p(only_a, only_b)
        tests.append(McNemar(a.name, b.name, a.group, b.group, len(right_a), only_a, only_b, p))
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


def _read_answers(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a run's test images, and which of them it classifies correctly, (N,) each."""
    arrays = read_predictions(run)
    return arrays["labels"], arrays["labels"] == arrays["predictions"]


def _judge(test: McNemar, p_holm: float) -> McNemar:
    verdict = NOT_SHOWN if p_holm >= LEVEL else MORE_RIGHT if test.only_a > test.only_b else FEWER_RIGHT
    return replace(test, p_holm=p_holm, verdict=verdict)
