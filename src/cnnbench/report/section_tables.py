"""The tables of sections that not every study has: folds, shares of the variance, and calibration."""

import statistics
from collections import defaultdict

from cnnbench.config.seeds import SeedName, sort_seeds
from cnnbench.metrics import OF_PROBABILITIES, Metric
from cnnbench.metrics.calibration import BINS
from cnnbench.report.formatting import format_interval, format_ratio, format_share, format_spread
from cnnbench.report.groups import Group
from cnnbench.report.runs import CALIBRATED
from cnnbench.report.statistics import estimate
from cnnbench.report.study import Study
from cnnbench.report.tables import Cell, Column, Table, show_name, show_number, tabulate
from cnnbench.report.variance import VarianceShare

FOLDS_TEST = (
    "The runs share most of their training images, so they are not independent. Groups are therefore compared fold by "
    "fold with the corrected resampled t-test (Nadeau and Bengio, 2003), where 1/n in the variance of a mean is "
    "replaced by 1/n + 1/(K − 1) for K folds. Intervals are widened likewise."
)
FOLDS_NOTE = (
    "Cross-validation: each run was tested on the fold of the training images that it was not trained on. No run has "
    f"read the dataset's test images. {FOLDS_TEST} This test has no part in the tests over seeds."
)
VARIANCE_NOTE = (
    "Each source of randomness is varied alone, with all other seeds fixed. Its share is the variance of these runs, "
    "divided by that of the runs that vary all seeds together. Sources act on each other, so the shares need not add "
    "up to 100 %. Intervals are 95 %, by the F distribution for normally distributed accuracies. The test set is on "
    "the same scale, but no part of the 100 %, because all runs are tested on the same images: the binomial variance "
    "accuracy · (1 − accuracy) / images says how far another test set of its size would move an accuracy. More seeds "
    "do not lower it. Its interval is by the χ² distribution."
)
CALIBRATION_NOTE = (
    "Less is better for all scores. NLL and Brier judge all probabilities of an image. ECE is how far accuracy and "
    f"confidence differ, in {BINS} bins of equally many images; AURC is low if a network is unsure where it errs."
)
AFTER = ("nll", "ece")  # scores that the table also has after calibration


def tabulate_folds(study: Study) -> Table:
    """A row per group and seed, a column per fold; without rows if nothing is cross-validated."""
    rows: list[tuple[str, SeedName, dict[int, float]]] = []  # accuracy by fold, from 1
    for group in study.measured:
        by_seed: dict[SeedName, dict[int, float]] = defaultdict(dict)
        for run in group.runs:
            if run.fold and run.seeds and run.has_classes:
                by_seed[run.seeds.name][run.fold.number] = run.summary["test/accuracy"]
        rows += [(group.label, seed, by_seed[seed]) for seed in sort_seeds(by_seed)]

    def make_column(number: int) -> Column:
        return Column(f"fold {number}", lambda row: _show_share(row[2].get(number)), optional=1)

    columns = [
        Column("group", lambda row: show_name(row[0]), kind="name"),
        Column("seed", lambda row: show_name(str(row[1]))),
        *map(make_column, range(1, study.most_folds + 1)),
        Column("mean", lambda row: _show_share(statistics.fmean(row[2].values()))),
    ]
    return tabulate("folds-table", "Folds (test accuracy)", columns, rows)


def _show_share(accuracy: float | None) -> Cell:
    return Cell() if accuracy is None else Cell(format_share(accuracy), value=accuracy)


def tabulate_variance(study: Study) -> Table:
    """A row per group and source of randomness, with its spread and its share of the variance."""

    def show_share(one: VarianceShare) -> Cell:
        return Cell(format_ratio(one.share), format_interval(one.low, one.high, format_ratio), one.share)

    columns = [
        Column("group", lambda one: show_name(one.group), kind="name"),
        Column("what varies", lambda one: Cell(one.source), kind="words"),
        Column("runs", lambda one: show_number(one.n)),
        Column("spread", lambda one: Cell(f"{100 * one.std:.3f}", value=one.std), unit="points"),
        Column("share of the variance", show_share, unit="%", detail="[95 %]"),
    ]
    title = "Where the variance comes from (test accuracy)"
    return tabulate("variance-table", title, columns, study.variance, VARIANCE_NOTE)


def tabulate_calibration(study: Study) -> Table:
    """A row per group with predictions: how far its probabilities can be trusted."""

    def make_column(metric: Metric, part: str) -> Column:
        def make_cell(group: Group) -> Cell:
            values = [*group.collect_figures(f"{part}/{metric.name}").values()]
            if len(values) < group.n:  # a mean over other seeds than those beside it would mislead
                return Cell()
            found = estimate(values)
            return Cell(format_spread(found, metric), value=found.mean)

        title = metric.title if part == "test" else f"{metric.title}, calibrated"
        return Column(title, make_cell, unit="%" if metric.percent else "")

    columns = [
        Column("group", lambda group: show_name(group.label), kind="name"),
        Column("n", lambda group: show_number(group.n)),
        *(make_column(metric, "test") for metric in OF_PROBABILITIES),
        *(make_column(metric, CALIBRATED) for metric in OF_PROBABILITIES if metric.name in AFTER),
    ]
    groups = [group for group in study.groups if group.collect_figures("test/ece")]
    return tabulate("calibration-table", "Calibration", columns, groups, CALIBRATION_NOTE)
