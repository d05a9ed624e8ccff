"""The table of how far the probabilities of groups can be trusted."""

from cnnbench.metrics import OF_PROBABILITIES, Metric
from cnnbench.metrics.calibration import BINS
from cnnbench.report.formatting import format_spread
from cnnbench.report.groups import Group
from cnnbench.report.runs import CALIBRATED
from cnnbench.report.statistics import estimate
from cnnbench.report.study import Study
from cnnbench.report.tables import Cell, Column, Table

PARTS = {"test": "as trained", CALIBRATED: "calibrated"}  # by the prefix of their figures in a summary
AFTER = ("nll", "ece")  # scores that the table also has after calibration
NOTE = (
    "Less is better for all scores. NLL and Brier judge all probabilities of an image. ECE is how far accuracy and "
    f"confidence differ, in {BINS} bins of equally many images; AURC is low if a network is unsure where it errs."
)


def tabulate_calibration(study: Study) -> Table:
    """A row per group with predictions: the scores of their probabilities."""
    groups = [group for group in study.groups if group.collect_figures("test/ece")]
    columns = [
        Column("group", lambda group: Cell(group.label, value=group.label), kind="name"),
        Column("n", lambda group: Cell(str(group.n), value=group.n)),
        *(_make_column(metric, "test") for metric in OF_PROBABILITIES),
        *(_make_column(metric, CALIBRATED) for metric in OF_PROBABILITIES if metric.name in AFTER),
    ]
    rows = [[column.cell(group) for column in columns] for group in groups]
    return Table("calibration-table", "Calibration", columns, rows)


def _make_column(metric: Metric, part: str) -> Column:
    def make_cell(group: Group) -> Cell:
        values = [*group.collect_figures(f"{part}/{metric.name}").values()]
        if len(values) < group.n:  # a mean over other seeds than those beside it would mislead
            return Cell()
        found = estimate(values)
        return Cell(format_spread(found, metric), value=found.mean)

    title = metric.title if part == "test" else f"{metric.title}, calibrated"
    return Column(title, make_cell, unit="%" if metric.percent else "")
