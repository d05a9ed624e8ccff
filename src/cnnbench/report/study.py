"""The content of a report: runs in groups, comparisons of groups, and notes.

The rules, fixed before any result is seen; docs/explanation/statistics.md gives the reasons:

- Two groups that share at least two seeds are compared seed by seed, and only shared seeds count. Otherwise, if each
  group has at least two runs, they are compared by Welch's t-test. Otherwise there is no test.
- For pairs, the exact sign-flip test decides; the paired t-test is shown beside it. It cannot find anything with fewer
  than six seeds. Without pairs, Welch's test decides, and needs as many seeds in each group: with fewer, it would find
  what holds only if accuracies are normally distributed.
- Groups that are cross-validated with the same folds are compared fold by fold with the corrected resampled t-test
  (`statistics.py`): neither the sign-flip test nor the anytime verdict applies.
- The p-values that decide are corrected by Holm's method over all comparisons shown; those of the McNemar tests, a
  family of their own, likewise.
- "better" and "worse" need a corrected p below 0.05. With enough seeds, anything else is "no difference shown", which
  is not "equal". With fewer, the report says what was seen and how many seeds a verdict needs.
- "equal" needs a δ that the reader named, pairs, as many seeds, and two one-sided paired t-tests with p below 0.05
  after Holm's correction over these tests.
- All of this holds for a number of seeds that was fixed beforehand. Pairs also have an anytime verdict, from a separate
  test (`metrics/sequential.py`), which may be read after each seed. Neither verdict has a part in the other.
- A McNemar test compares two trained networks, not two ways to train. It is made for each comparison with the runs of
  the lowest seed that both groups have, or with the first runs; and for two runs of a group that is reported alone.
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
    """What a report is made of."""

    runs: list[Run]  # every run that was found, including failed, running and damaged ones
    groups: list[Group]  # those with a finished run, in the order of their first run
    axes: list[str]  # the keys that tell the groups apart, such as `model.name`, `model.width`
    follows: list[str]  # keys that differ along with the axes
    target: float | None = None  # an accuracy; the report shows the first epoch that reached it
    delta: float | None = None  # the difference of accuracies, as a share, up to which groups count as equal
    baseline: str | None = None  # the label of the group that others are compared with; None with fewer than two groups
    comparisons: list[Comparison] = field(default_factory=list)  # the baseline's first
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
    def counted_runs(self) -> list[Run]:
        """The runs of the groups' means and comparisons."""
        return [run for group in self.groups for run in group.runs]
