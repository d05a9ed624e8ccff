"""The content of a report: runs in groups, comparisons of groups, and notes.

The rules, fixed before any result is seen:

- Two groups that share at least two seeds are compared seed by seed; only shared seeds count. Equal seeds mean equal
  splits and orders of the images, so that much of the noise cancels. Otherwise, if each group has at least two runs,
  they are compared by Welch's t-test. Otherwise there is no test.
- For pairs, the exact sign-flip test decides; the paired t-test is shown beside it. The t-test would find more with
  three or four seeds, but only if the differences are normally distributed, which so few cannot show. The sign-flip
  test assumes only that, if the groups are equal, either of a pair could have been the better one. Its smallest p is
  2 / 2^n, so it cannot find anything with fewer than six seeds. Without pairs, Welch's test decides, and needs as many
  seeds in each group: with fewer, it would find what holds only if accuracies are normally distributed.
- Groups that are cross-validated with the same folds are compared fold by fold with the corrected resampled t-test
  (`statistics.py`), because folds share training images: neither the sign-flip test nor the anytime verdict applies.
- The p-values that decide are corrected by Holm's method over all comparisons shown; those of the McNemar tests, a
  family of their own, likewise.
- "better" and "worse" need a corrected p below 0.05. With enough seeds, anything else is "no difference shown", which
  is not "equal". With fewer, the report says what was seen and how many seeds a verdict needs.
- "equal" needs a δ that the reader named, pairs, as many seeds, and two one-sided paired t-tests with p below 0.05
  after Holm's correction over these tests.
- All of this holds for a number of seeds that was fixed beforehand. Pairs also have an anytime verdict, from a test of
  its own (`metrics/sequential.py`), which may be read after each seed. Neither verdict has a part in the other.
- A McNemar test asks about two trained networks, not about two ways to train. It is made for each comparison with the
  runs of the lowest seed that both groups have, or with the first runs. Two runs of one group, reported alone, are
  compared in this way too.
"""

from dataclasses import dataclass, field
from typing import Literal

from cnnbench.report.comparing import Comparison
from cnnbench.report.groups import Group
from cnnbench.report.networks import McNemar
from cnnbench.report.runs import Run
from cnnbench.report.variance import VarianceShare

NoteKind = Literal[
    "unfinished", "unstarted", "runs", "groups", "comparisons", "seeds", "folds", "networks", "data", "replaced"
]


@dataclass(frozen=True)
class Note:
    """A sentence that a reader must know; `kind` says what it is about."""

    kind: NoteKind
    text: str


@dataclass
class Study:
    """What a report is made of.

    Attributes:
        runs: every run that was found, including failed, running and damaged ones.
        groups: those with a finished run, in the order of their first run.
        axes: the keys that tell the groups apart, such as `model.name`, `model.width`.
        follows: keys that differ along with the axes.
        target: the accuracy whose first epoch is looked for.
        delta: the difference of accuracies, as a share, up to which groups count as equal; None if nobody named one.
        baseline: the label of the group that others are compared with; None with fewer than two groups.
        comparisons: differences of groups, the baseline's first.
        mcnemar: differences of single networks.
        variance: which share of the variance each source of randomness has, for groups that vary them one at a time.
    """

    runs: list[Run]
    groups: list[Group]
    axes: list[str]
    follows: list[str]
    target: float | None = None
    delta: float | None = None
    baseline: str | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    mcnemar: list[McNemar] = field(default_factory=list)
    variance: list[VarianceShare] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def measured(self) -> list[Group]:
        """The groups with an accuracy."""
        return [group for group in self.groups if group.accuracy]

    @property
    def most_folds(self) -> int:
        """The largest number of folds that a group is cross-validated with; 0 without."""
        return max((group.folds for group in self.groups), default=0)

    @property
    def ranked(self) -> list[Group]:
        """The groups with an accuracy: the baseline first, then the others from the most to the least accurate."""
        return sorted(self.measured, key=lambda group: (group.label != self.baseline, -group.mean_accuracy))

    @property
    def against_baseline(self) -> dict[str, Comparison]:
        """The comparisons with the baseline, by the label of the other group."""
        return {one.a: one for one in self.comparisons if one.b == self.baseline}

    @property
    def test_sets(self) -> set[str]:
        """The hashes of the test sets of the counted runs."""
        return {run.test_set for group in self.groups for run in group.runs}
