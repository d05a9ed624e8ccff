"""Compare groups of runs; `study.py` states the rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

from cnnbench.config.seeds import sort_seeds
from cnnbench.metrics import sequential
from cnnbench.metrics.sequential import BETTER, EQUAL, WORSE, Reading
from cnnbench.report.formatting import format_difference, format_interval, format_p_equation, format_points
from cnnbench.report.groups import Group
from cnnbench.report.statistics import (
    LEVEL,
    Difference,
    compare_folds,
    compare_pairs,
    compare_samples,
    compute_equivalence_p,
    correct_by_holm,
    find_least_seeds,
)

T = TypeVar("T")
# Up to this many groups are all compared with each other, which needs no more seeds than a baseline does.
PAIRS_UP_TO = 3
PAIRED, FOLDS, WELCH = "paired", "folds", "welch"
NOT_SHOWN, TOO_FEW, NO_TEST = "no difference shown", "too few seeds", "no test"
TESTED = (BETTER, WORSE)  # the verdicts of a significant test
FIX_SEEDS_FIRST = (
    "Fix the number of seeds before you look at any result. Adding seeds one by one until a verdict appears, from six "
    "up to sixteen, gives a false verdict between equal groups in 14.6 % of cases instead of 5 %. Only the anytime "
    "verdict may be read after each seed."
)


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """The difference in accuracy between group `a` and group `b`, which is the baseline if one of them is."""

    a: str
    b: str
    kind: str  # paired (by seed), folds (of a cross-validation, paired too) or welch
    n_a: int  # runs that were compared; equal to n_b for pairs and folds
    n_b: int
    same_images: bool = True  # if the groups were tested on different images, there is no test
    ahead: int = 0  # pairs in which a has the higher accuracy
    tied: int = 0  # pairs in which both have the same
    p: float | None = None  # the p-value that decides: p_flip of paired seeds, else p_t
    p_holm: float | None = None  # after Holm's correction over the comparisons of the study
    family: int = 0  # how many of them have a test
    # The fewest pairs for which the sign-flip test could give p_holm < 0.05, if the other comparisons stay as they are.
    # Without pairs, each group needs as many. None for folds.
    seeds_needed: int | None = None
    delta: float | None = None  # the difference up to which groups count as equal, if the reader named one
    p_equal: float | None = None  # of two one-sided tests of pairs, after Holm's correction over these tests
    verdict: str = NO_TEST  # of `a`, for a number of seeds that was fixed beforehand
    anytime: Reading | None = None  # of pairs of seeds: may be read after each seed, and has no part in `verdict`

    @property
    def effect_name(self) -> str:
        """The name of the measure in `effect`; empty without one."""
        return "" if self.effect is None else "Cohen's d_z" if self.kind == PAIRED else "Hedges' g"

    @property
    def size(self) -> str:
        """Such as `8`, `5 folds`, or `7 and 6` without pairs."""
        if self.kind == FOLDS:
            return f"{self.n_a} fold{'s' if self.n_a > 1 else ''}"
        return f"{self.n_a}" if self.kind == PAIRED else f"{self.n_a} and {self.n_b}"

    @property
    def difference(self) -> str:
        """The difference in points with its interval."""
        return format_difference(self.mean, self.low, self.high)

    @property
    def words(self) -> str:
        """The verdict in a phrase, with n and the reason."""
        if not self.same_images:
            return f"{NO_TEST}: the groups were not tested on the same images"
        if self.verdict == TOO_FEW:
            return self._describe_few_seeds()
        if self.p_holm is None:
            if self.kind == FOLDS:
                alike = "the difference is the same in all folds" if self.n_a > 1 else "it needs two folds or more"
                return f"{NO_TEST}: {alike}"
            return f"{NO_TEST}: the runs of each group do not differ among themselves"
        corrected = " after Holm" if self.family > 1 else ""
        test = ", corrected resampled t-test" if self.kind == FOLDS else ""
        verdict = f"{self.verdict} ({format_p_equation(self.p_holm)}{corrected}{test}, n = {self.size})"
        if self.p_equal is None or self.delta is None:
            return verdict
        equal, within = f"{format_p_equation(self.p_equal)}{corrected}", f"within {_format_delta(self.delta)} points"
        if self.verdict == EQUAL:
            return f"{EQUAL} {within} ({equal}, two one-sided tests, n = {self.size})"
        # A difference may be significant and too small to matter.
        also = ", and" if self.verdict in TESTED and self.p_equal < LEVEL else "; not shown to be"
        return f"{verdict}{also} {EQUAL} {within} ({equal})"

    @property
    def sentence(self) -> str:
        """The groups, their difference and the verdicts."""
        anytime = f". Anytime verdict: {self.anytime_words}" if self.anytime else ""
        return f"{self.a} against {self.b}: {self.difference}, {self.words}{anytime}"

    @property
    def anytime_words(self) -> str:
        """The anytime verdict in a phrase with its interval; empty without pairs."""
        read = self.anytime
        if read is None:
            return ""
        within = f" within {_format_delta(self.delta)} points" if read.verdict == EQUAL and self.delta else ""
        pairs = read.decided_at if read.is_decided else read.n
        interval = format_interval(read.low, read.high, format_points)
        of_all = f" of {read.n}" if pairs != read.n else ""
        return f"{read.verdict}{within} after {pairs}{of_all} {'seed' if read.n == 1 else 'seeds'} {interval}".strip()

    def _describe_few_seeds(self) -> str:
        side = "ahead" if self.mean > 0 else "behind" if self.mean < 0 else "level"
        if self.kind == WELCH:
            seen = f"{side}, n = {self.size} without common seeds"
        elif self.n_a == 1:
            seen = f"{side} in the one seed in common"
        else:
            counts = {"ahead": self.ahead, "level": self.tied, "behind": self.n_a - self.ahead - self.tied}
            in_all = f"in {'both' if self.n_a == 2 else f'all {self.n_a}'} seeds"
            in_some = f"on average, in {counts[side]} of {self.n_a} seeds"
            seen = f"{side} {in_all if counts[side] == self.n_a else in_some}"
        family = self.family + (self.p is None)  # with this one, once it has a test
        of_each = " of each" if self.kind == WELCH else ""
        with_others = f" with {family} comparisons" if family > 1 else ""
        needed = self.seeds_needed
        return f"{seen}; a verdict needs {needed} seeds{of_each}{with_others}: add sweep.seeds={needed}"


def choose_baseline(groups: Sequence[Group], wanted: str | None) -> tuple[Group | None, bool]:
    """Choose the baseline, and whether the command or an experiment named it; None if no group has an accuracy.

    Raises:
        ValueError: `wanted` names no group, or several.
    """
    measured = [group for group in groups if group.accuracy]
    if wanted is not None:
        found = _find_groups(measured, wanted)
        if len(found) != 1:
            valid = ", ".join(repr(group.label) for group in measured[:20])
            what = f"{len(found)} groups" if found else "no group with an accuracy"
            advice = f"must be one of {valid}" if valid else "no group has an accuracy yet"
            raise ValueError(f"--baseline {wanted!r} names {what}: {advice}")
        return found[0], True
    named = (run.comparison.get("baseline") for group in measured for run in group.runs)
    for words in dict.fromkeys(one for one in named if isinstance(one, str)):
        found = _find_groups(measured, words)
        if len(found) == 1:
            return found[0], True
    return (measured[0] if measured else None), False


def _find_groups(groups: Sequence[Group], words: str) -> list[Group]:
    exact = [group for group in groups if group.label == words]
    return exact or [group for group in groups if group.matches(words)]


def pair_groups(groups: Sequence[T], baseline: T, *, all_pairs: bool) -> list[tuple[T, T]]:
    """The pairs that are compared: each with the baseline and, if wanted, up to three groups all with each other."""
    others = [group for group in groups if group is not baseline]
    pairs = [(other, baseline) for other in others]
    if all_pairs and len(groups) <= PAIRS_UP_TO:
        pairs += [(second, first) for first, second in combinations(others, 2)]
    return pairs


def compare_groups(
    groups: Sequence[Group], baseline: Group, *, all_pairs: bool, delta: float | None = None
) -> list[Comparison]:
    """Compare each group with the baseline and, if wanted, up to three groups all with each other.

    Args:
        delta: the difference up to which groups count as equal, as a share.
    """
    pairs = pair_groups([group for group in groups if group.accuracy], baseline, all_pairs=all_pairs)
    compared = [_compare(a, b, delta, len(pairs)) for a, b in pairs]
    values = [one.p for one in compared if one.p is not None]
    p_holm, p_equal = (_correct([getattr(one, name) for one in compared]) for name in ("p", "p_equal"))
    return [
        _judge(replace(one, p_equal=equal), values, holm)
        for one, holm, equal in zip(compared, p_holm, p_equal, strict=True)
    ]


def _correct(values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of a family by Holm's method; comparisons without one do not belong to it."""
    corrected = iter(correct_by_holm([value for value in values if value is not None]))
    return [None if value is None else next(corrected) for value in values]


def pair_accuracies(a: Group, b: Group) -> list[tuple[float, float]] | None:
    """The accuracies of both groups for each seed that they share; None if a seed was tested on different images."""
    shared = sort_seeds(a.accuracy.keys() & b.accuracy.keys())
    sets_a, sets_b = ({run.seed: run.test_set for run in group.runs} for group in (a, b))
    if any(sets_a[seed] != sets_b[seed] for seed in shared):
        return None
    return [(a.accuracy[seed], b.accuracy[seed]) for seed in shared]


def _compare(a: Group, b: Group, delta: float | None, comparisons: int) -> Comparison:
    pairs = pair_accuracies(a, b)
    # One pair has no test; Welch's needs two runs in each group, whatever their seeds.
    too_few_for_welch = min(len(a.accuracy), len(b.accuracy)) < 2
    if not pairs or not (len(pairs) >= 2 or too_few_for_welch):
        return _compare_unpaired(a, b)
    first, second = zip(*pairs, strict=True)
    differences = [x - y for x, y in pairs]
    n, correction = len(pairs), a.correction
    found = compare_folds(first, second, correction) if correction else compare_pairs(first, second)
    p_flip = found.p_flip if n > 1 else None
    return Comparison(
        **vars(replace(found, p_flip=p_flip)),
        a=a.label,
        b=b.label,
        kind=FOLDS if correction else PAIRED,
        n_a=n,
        n_b=n,
        p=found.p_t if correction else p_flip,
        ahead=sum(x > y for x, y in pairs),
        tied=sum(x == y for x, y in pairs),
        delta=delta,
        p_equal=None if delta is None else compute_equivalence_p(differences, delta, correction),
        # Folds share training images, so the bets of the anytime test would not be fair.
        anytime=None if correction else sequential.decide(differences, delta=delta, comparisons=comparisons),
    )


def _compare_unpaired(a: Group, b: Group) -> Comparison:
    found = compare_samples(list(a.accuracy.values()), list(b.accuracy.values()))
    same_images = len({run.test_set for group in (a, b) for run in group.runs}) == 1
    figures = found if same_images else Difference(found.mean)
    return Comparison(
        **vars(figures), a=a.label, b=b.label, kind=WELCH, n_a=len(a.accuracy), n_b=len(b.accuracy), p=figures.p_t,
        same_images=same_images,
    )  # fmt: skip


def _judge(comparison: Comparison, values: Sequence[float], p_holm: float | None) -> Comparison:
    """Add the verdict for a fixed number of seeds; `values` are the p-values of all comparisons."""
    if not comparison.same_images:
        return comparison
    others = list(values)
    if comparison.p is not None:
        others.remove(comparison.p)
    needed = None if comparison.kind == FOLDS else find_least_seeds(others)
    if needed is not None and min(comparison.n_a, comparison.n_b) < needed:
        verdict = TOO_FEW
    elif p_holm is None:
        verdict = NO_TEST
    elif p_holm < LEVEL and comparison.mean != 0:
        verdict = BETTER if comparison.mean > 0 else WORSE
    elif comparison.p_equal is not None and comparison.p_equal < LEVEL:
        verdict = EQUAL
    else:
        verdict = NOT_SHOWN
    return replace(comparison, p_holm=p_holm, family=len(values), seeds_needed=needed, verdict=verdict)


def _format_delta(delta: float) -> str:
    return f"{100 * delta:.4g}"
