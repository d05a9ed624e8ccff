"""The table of the shares of the variance that `variance.py` computes."""

from cnnbench.report.formatting import format_interval
from cnnbench.report.study import Study
from cnnbench.report.tables import Cell, Column, Table, tabulate
from cnnbench.report.variance import VarianceShare

TITLE = "Where the variance comes from (test accuracy)"
NOTE = (
    "Each source of randomness is varied alone, with all other seeds fixed. Its share is the variance of these runs, "
    "divided by that of the runs that vary all seeds together. Sources act on each other, so the shares need not add "
    "up to 100 %. Intervals are 95 %, by the F distribution for normally distributed accuracies. The test set is on "
    "the same scale, but no part of the 100 %, because all runs are tested on the same images: the binomial variance "
    "accuracy · (1 − accuracy) / images says how far another test set of its size would move an accuracy. More seeds "
    "do not lower it. Its interval is by the χ² distribution."
)


def tabulate_variance(study: Study) -> Table:
    """A row per group and source of randomness, with its spread and its share of the variance."""
    columns = [
        Column("group", lambda one: Cell(one.group, value=one.group), kind="name"),
        Column("what varies", lambda one: Cell(one.source), kind="words"),
        Column("runs", lambda one: Cell("" if one.n is None else str(one.n), value="" if one.n is None else one.n)),
        Column("spread", lambda one: Cell(f"{100 * one.std:.3f}", value=one.std), unit="points"),
        Column("share of the variance", _show_share, unit="%", detail="[95 %]"),
    ]
    return tabulate("variance-table", TITLE, columns, study.variance)


def _show_share(one: VarianceShare) -> Cell:
    return Cell(format_ratio(one.share), format_interval(one.low, one.high, format_ratio), one.share)


def format_ratio(share: float) -> str:
    """A share of a variance, which may exceed the whole, in percent without a sign."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"
