"""Groups against groups and networks against networks; `study.py` gives the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cnnbench.report import statistics
from cnnbench.report.groups import Group, matches
from cnnbench.report.runs import Run
from cnnbench.report.statistics import LEVEL, least_p

PAIRS_UP_TO = 3  # so many groups are all compared with each other, which takes no seed more than a baseline does
CUT_BY_SEED = (
    "image_folder",
    "csv_signals",
)  # equal labels do not mean equal images where the seed draws the test split
PAIRED, WELCH = "paired", "welch"
BETTER, WORSE, NOT_SHOWN, NO_TEST = "better", "worse", "no difference shown", "no test"


@dataclass
class Comparison:
    """The accuracy of group `a` minus that of group `b`, which is the baseline where one of them is.

    Attributes:
        a, b: labels.
        kind: paired (by seed) or welch.
        n_a, n_b: runs that were compared; equal for pairs.
        mean, low, high: the difference and its 95 % interval by Student's t, uncorrected; shares, not points.
        p_t: paired t-test or Welch's.
        p_flip: exact sign-flip test; None for Welch.
        p: the one that decides: of pairs p_flip, else p_t; None where there is no test.
        p_holm: p after Holm's correction over the comparisons of the study.
        effect, effect_name: Cohen's d_z of pairs or Hedges' g; None where nothing varies.
        seeds_needed: the fewest pairs with which the sign-flip test could give p_holm < 0.05, the others as they are.
        verdict: better, worse, no difference shown, no test: of `a`.
        words: the verdict in a phrase, with n and why.
    """

    a: str
    b: str
    kind: str
    n_a: int
    n_b: int
    mean: float
    low: float | None = None
    high: float | None = None
    p_t: float | None = None
    p_flip: float | None = None
    p: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    effect_name: str = ""
    seeds_needed: int | None = None
    verdict: str = NO_TEST
    words: str = ""


@dataclass
class McNemar:
    """Two networks on the same test images.

    Attributes:
        a, b: the names of the runs; label_a, label_b: of their groups.
        images: how many both were tested on.
        only_a, only_b: images that only one of them classifies correctly.
        p, p_holm: exact, and after Holm's correction over the McNemar tests of the study.
        verdict: better, worse, no difference shown: of network `a`.
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


def baseline_of(groups: Sequence[Group], asked: str | None) -> tuple[Group | None, bool]:
    """The baseline, and whether someone named it; None if no group has an accuracy.

    Raises:
        ValueError: what was asked for names no group, or several.
    """
    measured = [group for group in groups if group.accuracy]
    if asked is not None:
        found = _named(measured, asked)
        if len(found) != 1:
            valid = ", ".join(repr(group.label) for group in measured[:20])
            what = f"{len(found)} groups" if found else "no group with an accuracy"
            raise ValueError(f"--baseline {asked!r} names {what}: accepted is one of {valid or 'none yet'}")
        return found[0], True
    for words in dict.fromkeys(_configured(run) for group in measured for run in group.runs):
        found = _named(measured, words) if words else []
        if len(found) == 1:
            return found[0], True
    return (measured[0] if measured else None), False


def _configured(run: Run) -> str | None:
    comparison = run.config.get("comparison")
    words = comparison.get("baseline") if isinstance(comparison, dict) else None
    return words if isinstance(words, str) else None


def _named(groups: Sequence[Group], words: str) -> list[Group]:
    exact = [group for group in groups if group.label == words]
    return exact or [group for group in groups if matches(group, words)]


def compare_groups(groups: Sequence[Group], baseline: Group, *, named: bool) -> tuple[list[Comparison], list[str]]:
    """Each group against the baseline, and if no baseline was named all pairs of up to three; with notes."""
    measured = [group for group in groups if group.accuracy]
    others = [group for group in measured if group is not baseline]
    pairs = [(other, baseline) for other in others]
    if not named and len(measured) <= PAIRS_UP_TO:
        pairs += [(second, first) for first, second in combinations(others, 2)]
    made = [_compare(a, b) for a, b in pairs]
    judged = [comparison for comparison in made if comparison.p is not None]
    for comparison, p in zip(judged, statistics.holm([c.p for c in judged if c.p is not None]), strict=True):
        comparison.p_holm = p
    family = len(judged)
    values = [c.p for c in judged if c.p is not None]
    for comparison in made:
        _judge(comparison, values, family)
    notes = []
    if not named and len(measured) > PAIRS_UP_TO:
        notes.append(
            f"No baseline was named: all are compared with the first group, {baseline.label}; --baseline takes another."
        )
    return made, notes + _left_out(pairs, made)


def _compare(a: Group, b: Group) -> Comparison:
    shared = sorted(a.accuracy.keys() & b.accuracy.keys())
    hashes_a, hashes_b = _hashes(a), _hashes(b)
    if len(shared) >= 2 or min(len(a.accuracy), len(b.accuracy)) < 2:
        same = all(hashes_a[seed] == hashes_b[seed] for seed in shared)
        if shared and same:
            found = statistics.paired([a.accuracy[s] for s in shared], [b.accuracy[s] for s in shared])
            n = len(shared)
            p = found.p_flip if n > 1 else None
            return _filled(Comparison(a.label, b.label, PAIRED, n, n, found.mean, p=p), found, "Cohen's d_z")
    values_a, values_b = list(a.accuracy.values()), list(b.accuracy.values())
    found = statistics.welch(values_a, values_b)
    comparison = Comparison(a.label, b.label, WELCH, len(values_a), len(values_b), found.mean)
    if len({*hashes_a.values(), *hashes_b.values()}) > 1:
        comparison.words = "no test: the groups were not tested on the same images"
        return comparison
    comparison.p = found.p_t
    return _filled(comparison, found, "Hedges' g")


def _filled(comparison: Comparison, found: statistics.Difference, effect_name: str) -> Comparison:
    comparison.low, comparison.high = found.low, found.high
    comparison.p_t, comparison.p_flip = found.p_t, found.p_flip if comparison.n_a > 1 else None
    comparison.effect = found.effect
    comparison.effect_name = effect_name if found.effect is not None else ""
    return comparison


def _hashes(group: Group) -> dict[int, str]:
    return {run.seed: run.test_set for run in group.runs if run.seed is not None}


def _judge(comparison: Comparison, values: Sequence[float], family: int) -> None:
    """Set verdict and words, once all p-values are known."""
    if comparison.words:
        return
    others = list(values)
    if comparison.p is not None:
        others.remove(comparison.p)
    comparison.seeds_needed = statistics.seeds_needed(others)
    size = len(others) + 1
    with_test = f"for p < {LEVEL:g} with this test" + (f" and {size} comparisons" if size > 1 else "")
    needed = f"at least {comparison.seeds_needed} seeds are needed {with_test}"
    if comparison.p is None or comparison.p_holm is None:
        comparison.words = f"no test: {_why_no_test(comparison, needed)}"
        return
    text = p_text(comparison.p_holm)
    said = f"p {text if text[0] == '<' else f'= {text}'}{' after Holm' if family > 1 else ''}, {_size(comparison)}"
    if comparison.p_holm < LEVEL and comparison.mean != 0:
        comparison.verdict = BETTER if comparison.mean > 0 else WORSE
        comparison.words = f"{comparison.verdict} ({said})"
        return
    comparison.verdict = NOT_SHOWN
    too_few = comparison.kind == PAIRED and statistics.holm([least_p(comparison.n_a), *others])[0] >= LEVEL
    comparison.words = f"{NOT_SHOWN} at n = {comparison.n_a}: {needed}" if too_few else f"{NOT_SHOWN} ({said})"


def _why_no_test(comparison: Comparison, needed: str) -> str:
    if comparison.kind == WELCH and min(comparison.n_a, comparison.n_b) > 1:
        return "the runs of each group do not differ among themselves"
    if comparison.kind == PAIRED:
        return f"one seed says nothing of the next; {needed}"
    return "the groups share no seed, and one of them has a single run"


def _size(comparison: Comparison) -> str:
    return f"n = {comparison.n_a}" if comparison.kind == PAIRED else f"n = {comparison.n_a} and {comparison.n_b}"


def p_text(p: float) -> str:
    """A p-value as it is written: two figures that matter, never 0, and on its own side of the level."""
    if p < 0.0001:
        return "< 0.0001"
    if p >= 0.1:
        return f"{p:.2f}"
    texts = (f"{p:.{digits}g}" for digits in range(2, 17))
    return next((text for text in texts if (float(text) < LEVEL) == (p < LEVEL)), repr(p))


def _left_out(pairs: Sequence[tuple[Group, Group]], made: Sequence[Comparison]) -> list[str]:
    """Runs that a paired comparison does not use."""
    notes = []
    for (a, b), comparison in zip(pairs, made, strict=True):
        if comparison.kind == PAIRED and comparison.n_a < max(len(a.accuracy), len(b.accuracy)):
            notes.append(
                f"{a.label} and {b.label} share {comparison.n_a} of their {len(a.accuracy)} and {len(b.accuracy)} "
                "seeds: only those are compared."
            )
    return notes


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
            test.verdict = BETTER if test.only_a > test.only_b else WORSE
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
    if a.seed != b.seed and {a.summary.get("data"), b.summary.get("data")} & set(CUT_BY_SEED):
        raise ValueError("their seeds differ, and with them the images that are cut off for the test")
    right_a, right_b = of_a[1] == of_a[0], of_b[1] == of_b[0]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = statistics.mcnemar(only_a, only_b)
    return McNemar(a.name, b.name, a.group, b.group, len(right_a), only_a, only_b, p)
