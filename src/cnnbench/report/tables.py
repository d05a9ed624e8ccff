"""The tables of a study, each described once for the terminal, Markdown, LaTeX and the page."""

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cnnbench.metrics import Metric, list_metrics
from cnnbench.report.comparing import FOLDS, WELCH, Comparison
from cnnbench.report.formatting import (
    format_change,
    format_figure,
    format_interval,
    format_mean_interval,
    format_p,
    format_p_equation,
    format_points,
    format_spread,
)
from cnnbench.report.groups import Group
from cnnbench.report.networks import McNemar
from cnnbench.report.runs import Run
from cnnbench.report.study import Study

Medium = Literal["page", "text", "paper"]  # report.html; the terminal and report.md; report.tex
KINDS_OF_T = {WELCH: " (Welch)", FOLDS: " (corrected)"}  # by the kind of a comparison


@dataclass(frozen=True)
class Cell:
    """The text of a cell, a detail in small print, and the value it is sorted by; missing values sort last."""

    text: str = ""
    detail: str = ""
    value: float | str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    cell: Callable[[Any], Cell]  # of an item, such as a group
    unit: str = ""
    kind: Literal["name", "words", "status", "number"] = "number"  # anybody may choose a name; a status has a colour
    high_first: bool = False  # whether the highest number is the best, and first when a reader sorts
    detail: str = ""  # what the details of its cells are; in text they are a column of their own
    optional: int = 0  # columns with the highest number are dropped first where the terminal is narrow; 0 never
    media: Collection[Medium] = ("page", "text", "paper")

    @property
    def heading(self) -> str:
        """Title and unit on one line."""
        return f"{self.title} {self.unit}".strip()


@dataclass(frozen=True)
class Table:
    """Columns, a row of cells for each item (group, run, comparison), and a note on how to read them."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def adapt_to(self, medium: Medium) -> "Table":
        """The table for a medium, without columns that would be empty; on paper, also without details."""
        kept: list[tuple[Column, list[Cell]]] = []
        for place, column in enumerate(self.columns):
            cells = [row[place] for row in self.rows]
            if medium in column.media and (place == 0 or any(cell.text for cell in cells)):
                kept.append((column, cells))
                if medium == "text" and column.detail and any(cell.detail for cell in cells):
                    kept.append((replace(column, unit=column.detail), [Cell(cell.detail) for cell in cells]))
        columns, cells_by_column = zip(*kept, strict=True)
        return replace(self, columns=columns, rows=list(zip(*cells_by_column, strict=True)))

    @property
    def texts(self) -> list[list[str]]:
        """The texts of the cells, row by row."""
        return [[cell.text for cell in row] for row in self.rows]

    @property
    def statuses(self) -> list[str]:
        """The status of each row, by which a reader can narrow the table; empty if it has no such column."""
        places = [place for place, column in enumerate(self.columns) if column.kind == "status"]
        return [row[place].text for row in self.rows for place in places]


def tabulate(name: str, title: str, columns: Sequence[Column], items: Sequence[Any], note: str = "") -> Table:
    """Make a table with a row for each item."""
    return Table(name, title, columns, [[column.cell(item) for column in columns] for item in items], note)


def show_name(text: str) -> Cell:
    """A cell with a name, by which the table can be sorted."""
    return Cell(text, value=text)


def show_number(value: Any, form: str = ",d") -> Cell:
    """A cell with a number; empty for anything else."""
    return Cell(format(value, form), value=value) if isinstance(value, int | float) else Cell()


def tabulate_groups(study: Study) -> Table:
    """A row per group: what it reached, and what it costs."""
    target = 100 * (study.target or 0)
    columns = [
        Column("group", lambda group: show_name(group.label), kind="name"),
        Column("n", lambda group: show_number(group.n)),
        *_make_score_columns(detail=False),
        *_make_difference_columns(study),
        Column("loss", lambda group: Cell() if group.accuracy else _show_mean(group, "test/loss", ".4f")),
        Column("parameters", lambda group: show_number(group.costs["parameters"])),
        Column("MACs", lambda group: show_number(group.costs["macs"]), optional=1),
        Column("field", lambda group: show_number(group.costs["receptive_field"]), optional=1),
        Column("depth", lambda group: show_number(group.costs["depth"]), optional=2, media=("page", "text")),
        Column("seconds", lambda group: _show_mean(group, "train_seconds", ",.1f"), optional=2),
        Column("images/s", lambda group: _show_mean(group, "images_per_second", ",.0f"), optional=2, high_first=True,
               media=("page", "text")),
        Column("epochs", _count_epochs, unit=f"to {target:.4g} %"),
        Column("published", _show_references, unit="%, F1", high_first=True, media=["page"]),
        Column("published", _show_references, unit="accuracy %", media=("text", "paper")),
        Column("published", lambda group: _show_reference(group, "f1_macro", 1, 4), unit="F1", optional=2,
               media=("text", "paper")),
    ]  # fmt: skip
    return tabulate("groups-table", "Groups", columns, study.groups)


def tabulate_details(study: Study) -> Table:
    """A row per group: the metrics for which the first table has no room."""
    columns = [
        Column("group", lambda group: show_name(group.label), kind="name"),
        Column("n", lambda group: show_number(group.n)),
        *_make_score_columns(detail=True),
    ]
    return tabulate("details-table", "More metrics", columns, study.measured)


def _make_score_columns(*, detail: bool) -> list[Column]:
    def make_column(metric: Metric) -> Column:
        def make_cell(group: Group) -> Cell:
            found = group.estimate_of(metric.name)
            if found is None:
                return Cell()
            return Cell(format_spread(found, metric), format_mean_interval(found, metric), found.mean)

        return Column(
            metric.title,
            make_cell,
            unit="%" if metric.percent else "",
            high_first=metric.higher_is_better,
            detail="[95 %]",
            optional=int(metric.name == "f1_macro"),
        )

    return [make_column(metric) for metric in list_metrics(detail=detail)]


def _make_difference_columns(study: Study) -> list[Column]:
    """The comparison with the baseline; text media have it in a separate table."""
    against = study.against_baseline

    def make_difference(group: Group) -> Cell:
        found = against.get(group.label)
        if found is None:
            return Cell()
        return Cell(format_points(found.mean), format_interval(found.low, found.high, format_points), found.mean)

    def make_verdict(group: Group) -> Cell:
        if found := against.get(group.label):
            return Cell(found.verdict, "" if found.p_holm is None else format_p_equation(found.p_holm), found.verdict)
        if not against:
            return Cell()  # an empty column, which is left out
        return show_name("baseline" if group.label == study.baseline else "not compared")

    page: tuple[Medium, ...] = ("page",)
    return [
        Column("difference", make_difference, unit="points", high_first=True, media=page),
        Column("verdict", make_verdict, unit="(fixed n)", kind="status", media=page),
    ]


def tabulate_comparisons(study: Study) -> Table:
    """A row per comparison of groups, with its verdict in words."""

    def make_difference(one: Comparison) -> Cell:
        return Cell(f"{format_points(one.mean)} {format_interval(one.low, one.high, format_points)}".strip())

    def make_effect(one: Comparison) -> Cell:
        return Cell("" if one.effect is None else f"{one.effect_name} {format_change(one.effect)}")

    def make_t(one: Comparison) -> Cell:
        return Cell(format_p(one.p_t) + ("" if one.p_t is None else KINDS_OF_T.get(one.kind, "")))

    columns = [
        Column("group", lambda one: Cell(one.a), kind="name"),
        Column("against", lambda one: Cell(one.b), kind="name"),
        Column("n", lambda one: Cell(one.size), optional=2, media=("text", "paper")),
        Column("difference, points", make_difference, unit="[95 %]"),
        Column("effect", make_effect, kind="words", optional=2),
        Column("p, sign-flip", lambda one: Cell(format_p(one.p_flip))),
        Column("p, t", make_t, optional=2, media=("page", "text")),
        Column("p, Holm", lambda one: Cell(format_p(one.p_holm)), media=("text", "paper")),
        Column("verdict", lambda one: Cell(one.words), unit="(fixed n)", kind="words"),
        Column("anytime verdict", lambda one: Cell(one.anytime_words), unit="[95 %]", kind="words", optional=1,
               media=("page", "text")),
    ]  # fmt: skip
    return tabulate("comparisons", "Which is better (test accuracy)", columns, study.comparisons)


def tabulate_networks(study: Study) -> Table:
    """A row per McNemar test."""

    def show(title: str, write: Callable[[McNemar], str], kind: Literal["name", "words", "number"]) -> Column:
        return Column(title, lambda test: Cell(write(test)), kind=kind)

    columns = [
        show("network", lambda test: test.a, "name"),
        show("of", lambda test: test.label_a, "name"),
        show("against", lambda test: test.b, "name"),
        show("of the other", lambda test: test.label_b, "name"),
        show("images", lambda test: f"{test.images:,}", "number"),
        show("only it right", lambda test: f"{test.only_a:,}", "number"),
        show("only the other", lambda test: f"{test.only_b:,}", "number"),
        show("p", lambda test: format_p(test.p), "number"),
        show("p, Holm", lambda test: format_p(test.p_holm), "number"),
        show("it has", lambda test: test.verdict, "words"),
    ]
    return tabulate("networks", "Two networks on the same images", columns, study.mcnemar)


def tabulate_runs(study: Study) -> Table:
    """A row per run, for the page; `results.csv` has all that is known of them."""

    def show(title: str, key: str, form: str, unit: str = "") -> Column:
        return Column(title, lambda run: show_number(run.summary.get(key), form), unit)

    def show_metric(metric: Metric) -> Column:
        def make_cell(run: Run) -> Cell:
            value = run.summary.get(f"test/{metric.name}")
            return Cell() if value is None else Cell(format_figure(value, metric), value=value)

        return Column(metric.title, make_cell, "%" if metric.percent else "", high_first=metric.higher_is_better)

    def make_seed(run: Run) -> Cell:
        return Cell() if run.seed is None else Cell(str(run.seed), value=run.seed if isinstance(run.seed, int) else "")

    def make_state(run: Run) -> Cell:
        is_older = run.summary and not run.counted
        return Cell(run.state, "not counted: a newer run has its config and seeds" if is_older else "", run.state)

    columns = [
        Column("run", lambda run: show_name(run.name), kind="name"),
        Column("group", lambda run: show_name(run.group), kind="name"),
        Column("seed", make_seed),
        Column("state", make_state, kind="status"),
        *map(show_metric, list_metrics(detail=False)),
        show("loss", "test/loss", ".4g"),
        show("best", "best_epoch", "g", "epoch"),
        show("training", "train_seconds", ",.1f", "s"),
        Column("name", lambda run: show_name(run.given_name), kind="name"),
        Column("tags", lambda run: show_name(run.tags), kind="name"),
    ]
    return tabulate("runs-table", "Runs", columns, study.runs)


def _show_mean(group: Group, key: str, form: str) -> Cell:
    values = group.collect_figures(key).values()
    return show_number(statistics.fmean(values) if values else None, form)


def _count_epochs(group: Group) -> Cell:
    """The median epoch that reached the target and how many seeds did, such as `2 (6 of 6)`."""
    if not group.epochs_to_target:
        return Cell()
    median = group.median_epochs_to_target
    reached = f"({group.reached} of {len(group.epochs_to_target)})"
    return Cell(f"never {reached}") if median is None else Cell(f"{median:g} {reached}", value=median)


def _show_references(group: Group) -> Cell:
    """Published accuracy, with F1 as a detail, for which the page has no column."""
    return replace(_show_reference(group, "accuracy", 100, 2), detail=_show_reference(group, "f1_macro", 1, 4).text)


def _show_reference(group: Group, key: str, factor: float, digits: int) -> Cell:
    value = group.reference.get(key)
    return Cell() if value is None else Cell(f"{value * factor:.{digits}f}", value=value)
