"""The scores of a cross-validation, fold by fold."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from cnnbench.config.seeds import SeedName, sort_seeds
from cnnbench.report.formatting import format_share
from cnnbench.report.study import Study
from cnnbench.report.tables import Cell, Column, Table, tabulate

TITLE = "Folds (test accuracy)"
TEST = (
    "The runs share most of their training images, so they are not independent. Groups are therefore compared fold by "
    "fold with the corrected resampled t-test (Nadeau and Bengio, 2003), where 1/n in the variance of a mean is "
    "replaced by 1/n + 1/(K − 1) for K folds. Intervals are widened likewise."
)
NOTE = (
    "Cross-validation: each run was tested on the fold of the training images that it was not trained on. No run has "
    f"read the dataset's test images. {TEST} This test has no part in the tests over seeds."
)


class FoldScores(NamedTuple):
    """The accuracies of a group's runs with the same seeds, by fold from 1."""

    group: str
    seed: str
    accuracies: Mapping[int, float]


def tabulate_folds(study: Study) -> Table:
    """A row per group and seed, a column per fold; without rows if nothing is cross-validated."""
    rows = []
    for group in study.measured:
        by_seed: dict[SeedName, dict[int, float]] = defaultdict(dict)
        for run in group.runs:
            if run.fold and run.seeds and run.has_classes:
                by_seed[run.seeds.name][run.fold.number] = run.summary["test/accuracy"]
        rows += [FoldScores(group.label, str(seed), by_seed[seed]) for seed in sort_seeds(by_seed)]

    def make_column(number: int) -> Column:
        return Column(f"fold {number}", lambda row: _show_share(row.accuracies.get(number)), optional=1)

    columns = [
        Column("group", lambda row: Cell(row.group, value=row.group), kind="name"),
        Column("seed", lambda row: Cell(row.seed, value=row.seed)),
        *map(make_column, range(1, study.most_folds + 1)),
        Column("mean", lambda row: _show_share(statistics.fmean(row.accuracies.values()))),
    ]
    return tabulate("folds-table", TITLE, columns, rows)


def _show_share(accuracy: float | None) -> Cell:
    return Cell() if accuracy is None else Cell(format_share(accuracy), value=accuracy)
