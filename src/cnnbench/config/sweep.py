"""The keys of a sweep as a whole."""

from typing import Annotated, Literal

from pydantic import Field

from cnnbench.config.keys import Section, key
from cnnbench.config.seeds import Source


class SweepConfig(Section):
    """Settings of a sweep as a whole, not of its runs."""

    # Every job is composed and checked before the first one starts: a million of them would take hours.
    seeds: int | None = key(
        "Run every config with the seeds 0, 1, … below this number", None, ge=1, le=10_000, role="control"
    )
    folds: int | None = key(
        "Cross-validate every config: a run for each of this many folds of the training images",
        None,
        ge=2,
        le=100,
        role="control",
    )
    alone: list[Source] = key(
        "Also vary the seeds of these sources of randomness one at a time, by sweep.seeds values each",
        [],
        role="control",
    )
    restart: bool = key(
        "Start again, even if an earlier call of the same command has finished jobs", False, role="control"
    )
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = key(
        "Jobs to run at once; auto: as many as the cores have threads for and the memory has room for, one a GPU",
        "auto",
        role="control",
    )
    until: Literal["decided"] | None = key(
        "Add seeds, instead of sweep.seeds, until every comparison is decided", None, role="control"
    )
    delta: float | None = key(
        "With until: groups whose accuracies differ by less than this share (0.001 is 0.1 points) are equal; null: a "
        "sweep never calls them equal",
        None,
        gt=0,
        lt=1,
        role="control",
    )
    max_seeds: int = key("With until: the most seeds of each config", 40, ge=1, le=10_000, role="control")
    # A step shared by many runs rounds differently, so this key is recorded in each run.
    together: bool = key("Train jobs that differ only in their seeds by one step", False, may_change=True)

    @property
    def is_repeated(self) -> bool:
        """Whether each config has several jobs, with other seeds or folds."""
        return self.most_seeds is not None or self.folds is not None

    @property
    def most_seeds(self) -> int | None:
        """The number of seeds of each config, at most; None if the command names the seeds itself."""
        return self.max_seeds if self.until else self.seeds
