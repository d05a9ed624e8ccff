"""The tables of a page as text and sort keys: groups with their figures, runs with their drawers, environments."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from cnnbench.metrics import Shown, shown_metrics
from cnnbench.report.comparing import Comparison, p_text
from cnnbench.report.groups import Group, flat, shown
from cnnbench.report.runs import Run
from cnnbench.report.statistics import Estimate
from cnnbench.report.study import Study
from cnnbench.report.svg import as_interval, as_points, legible, legible_lines
from cnnbench.report.tables import figure, interval, spread

MOST_SETTINGS = 80  # in a drawer; more of them come from a config that nobody wrote by hand


@dataclass(frozen=True)
class Column:
    """A column: numbers are aligned right and sorted as numbers, the highest first where that is the better end."""

    title: str
    unit: str = ""
    number: bool = True
    high_first: bool = False


@dataclass(frozen=True)
class Cell:
    """What is read, a second line in small print, and what it is sorted by; missing values sort last."""

    text: str = ""
    small: str = ""
    sort: float | str = ""
    pill: str = ""


@dataclass(frozen=True)
class Drawer:
    """What there is to know of a run beyond its row; `environment` is a number from 1, 0 where none was recorded."""

    message: str
    settings: Sequence[tuple[str, str]]
    command: str
    asked: str
    folder: str
    environment: int


@dataclass(frozen=True)
class Row:
    """A row; `choice` is what the table can be narrowed to."""

    cells: Sequence[Cell]
    choice: str
    baseline: bool = False
    drawer: Drawer | None = None


@dataclass(frozen=True)
class Table:
    """A table that a reader sorts and filters; `name` is its id."""

    name: str
    title: str
    choice: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    drawers: bool = False

    @property
    def choices(self) -> list[str]:
        """What there is to narrow it to."""
        return sorted({row.choice for row in self.rows})


@dataclass
class Environment:
    """Where runs were made: what was recorded of it, and how many."""

    entries: Sequence[tuple[str, str]]
    runs: str = ""
    count: int = field(default=0, compare=False)


def groups_table(study: Study) -> Table:
    """The headline: a row a group."""
    against = {c.a: c for c in study.comparisons if c.b == study.baseline}
    published = any(group.reference for group in study.groups)
    columns = [
        Column("group", number=False),
        Column("accuracy", "%", high_first=True),
        *([Column("difference", "points", high_first=True), Column("verdict", number=False)] if against else []),
        Column("n", "seeds", high_first=True),
        *_score_columns(),
        *([Column("published", "%, F1", high_first=True)] if published else []),
        *([Column("target", f"epochs to {100 * study.target:.4g} %")] if study.target is not None else []),
        Column("parameters"),
        Column("MACs"),
        Column("field", "pixels"),
        Column("depth", "layers"),
        Column("training", "s"),
        Column("rate", "images/s", high_first=True),
    ]
    rows = []
    for group in study.groups:
        comparison = against.get(group.label)
        verdict = comparison.verdict if comparison else "baseline" if group.label == study.baseline else "not compared"
        cells = [
            Cell(legible(group.label), sort=group.label),
            _estimate(group.accuracy_estimate, 100, 2),
            *(_compared(comparison, verdict) if against else []),
            Cell(str(group.n), sort=group.n),
            *(_estimate(group.estimate_of(m.name), m.factor, m.digits, share=m.share) for m in _further()),
            *([_published(group)] if published else []),
            *([_target(group)] if study.target is not None else []),
            *(_number(getattr(group, key), ",d") for key in ("parameters", "macs", "receptive_field", "depth")),
            _mean(group.seconds.values(), ",.1f"),
            _mean(group.images_per_second.values(), ",.0f"),
        ]
        rows.append(Row(cells, verdict, group.label == study.baseline))
    return Table("groups-table", "Groups", "Verdict", columns, rows)


def _further() -> list[Shown]:
    """The metrics besides accuracy."""
    return [metric for metric in shown_metrics() if metric.name != "accuracy"]


def _score_columns() -> list[Column]:
    return [Column(m.title, "%" if m.percent else "", high_first=m.higher_is_better) for m in _further()]


def _estimate(estimate: Estimate | None, factor: float, digits: int, *, share: bool = True) -> Cell:
    if estimate is None:
        return Cell("–")
    return Cell(spread(estimate, factor, digits), interval(estimate, factor, digits, share=share), estimate.mean)


def _published(group: Group) -> Cell:
    accuracy, f1 = group.reference.get("accuracy"), group.reference.get("f1_macro")
    if accuracy is None:
        return Cell()
    return Cell(f"{100 * accuracy:.2f}", "" if f1 is None else f"{f1:.4f}", accuracy)


def _target(group: Group) -> Cell:
    epochs = group.median_epochs_to_target
    reached = f"{group.reached} of {len(group.epochs_to_target)}"
    return Cell("not reached", reached) if epochs is None else Cell(f"{epochs:g}", reached, epochs)


def _compared(comparison: Comparison | None, verdict: str) -> list[Cell]:
    if comparison is None:
        return [Cell(), Cell("" if verdict == "baseline" else verdict, sort=verdict)]
    bounds = as_interval(comparison.low, comparison.high, as_points)
    p = "" if comparison.p_holm is None else f"p {_equals(p_text(comparison.p_holm))}"
    pill = verdict if verdict in ("better", "worse") else "plain"
    return [Cell(as_points(comparison.mean), bounds, comparison.mean), Cell(verdict, p, verdict, pill)]


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def figures_of(comparison: Comparison) -> str:
    """The numbers behind a verdict, in a line."""
    n = f"n = {comparison.n_a}" if comparison.kind == "paired" else f"n = {comparison.n_a} and {comparison.n_b}"
    parts = [
        f"{as_points(comparison.mean)} points {as_interval(comparison.low, comparison.high, as_points)}".strip(),
        n,
    ]
    tests = {"sign-flip": comparison.p_flip, "paired t" if comparison.kind == "paired" else "Welch’s t": comparison.p_t}
    parts += [f"{name} p {_equals(p_text(p))}" for name, p in tests.items() if p is not None]
    if comparison.effect is not None:
        parts.append(f"{comparison.effect_name} = {comparison.effect:.2f}".replace("-", "−"))
    return " · ".join(parts)


def runs_table(study: Study) -> tuple[Table, list[Environment], list[tuple[str, str]]]:
    """A row a run with its drawer; the environments that drawers refer to; and the keys that all runs share."""
    columns = [
        Column("run", number=False),
        Column("group", number=False),
        Column("seed"),
        Column("state", number=False),
        Column("accuracy", "%", high_first=True),
        *_score_columns(),
        Column("loss"),
        Column("best", "epoch"),
        Column("training", "s"),
        Column("name", number=False),
        Column("tags", number=False),
    ]
    flats = [_flat(run) for run in study.runs]
    shared = set(flats[0].items()).intersection(*(set(one.items()) for one in flats[1:])) if flats else set()
    environments: dict[str, Environment] = {}
    rows = []
    for run, settings in zip(study.runs, flats, strict=True):
        number = _environment(run, environments)
        own = [(legible(key), legible(value)) for key, value in settings.items() if (key, value) not in shared]
        drawer = Drawer(
            message=legible_lines(run.message),
            settings=own[:MOST_SETTINGS],
            command=legible_lines(shlex.join(["cnnbench", "train", *run.overrides]), 4000),
            asked=legible_lines(_asked(run), 4000),
            folder=legible(run.path, 500),
            environment=number,
        )
        rows.append(Row(_run_cells(run), run.state, drawer=drawer))
    for environment in environments.values():
        environment.runs = f"{environment.count} run{'s' if environment.count > 1 else ''}"
    common = [
        (legible(key), legible(value)) for key, value in (flats[0] if flats else {}).items() if (key, value) in shared
    ]
    return Table("runs-table", "Runs", "State", columns, rows, drawers=True), [*environments.values()], common[:500]


def _run_cells(run: Run) -> list[Cell]:
    summary = run.summary
    uncounted = "not counted: a newer run has its config and seed" if summary and not run.counted else ""
    pill = run.state if run.state in ("finished", "failed", "damaged") else "plain"
    return [
        Cell(legible(run.name), sort=run.name),
        Cell(legible(run.group), sort=run.group),
        _number(run.seed, "d"),
        Cell(legible(run.state, 40), uncounted, run.state, pill),
        *(_metric(summary.get(f"test/{m.name}"), m) for m in shown_metrics()),
        _number(summary.get("test/loss"), ".4g"),
        _number(summary.get("best_epoch"), "g"),
        _number(summary.get("train_seconds"), ",.1f"),
        *(Cell(legible(text, 60), sort=text) for text in (run.label, run.tags)),
    ]


def _flat(run: Run) -> dict[str, str]:
    try:
        return {key: shown(value) for key, value in flat(run.config).items()} | {"seed": shown(run.seed)}
    except ValueError:
        return {}


def _asked(run: Run) -> str:
    command = run.environment.get("command")
    if not isinstance(command, list) or [*map(str, command[2:])] == run.overrides:
        return ""
    return shlex.join(map(str, command))


def _environment(run: Run, known: dict[str, Environment]) -> int:
    """The number of a run's environment, from 1; it is added to the known ones where it is new."""
    entries = [(key, value) for key, value in run.environment.items() if key != "command"][:MOST_SETTINGS]
    if not entries:
        return 0
    text = json.dumps(entries, default=str)
    here = known.setdefault(text, Environment([(legible(key), legible(shown(value))) for key, value in entries]))
    here.count += 1
    return list(known).index(text) + 1


def _mean(values: Any, form: str) -> Cell:
    return _number(fmean(values) if values else None, form)


def _number(value: Any, form: str) -> Cell:
    return Cell(format(value, form), sort=value) if isinstance(value, int | float) else Cell("–")


def _metric(value: Any, metric: Shown) -> Cell:
    known = isinstance(value, int | float)
    return Cell(figure(value, metric.factor, metric.digits), sort=value) if known else Cell("–")
