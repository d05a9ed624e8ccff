"""`report.html`: a study as one file that needs no network, and can be read without scripts."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

import cnnbench
from cnnbench.report.calibration import NOTE as CALIBRATION_NOTE
from cnnbench.report.calibration import tabulate_calibration
from cnnbench.report.calibration_chart import chart_calibration
from cnnbench.report.charts import chart_curves, chart_differences, chart_variance
from cnnbench.report.comparing import TESTED, Comparison
from cnnbench.report.cost_chart import chart_costs
from cnnbench.report.documents import hash_for_policy, read_template, render
from cnnbench.report.folds import TITLE as FOLDS_TITLE
from cnnbench.report.folds import tabulate_folds
from cnnbench.report.formatting import format_p_equation, make_legible, make_lines_legible
from cnnbench.report.groups import format_setting, select_settings, shorten_names
from cnnbench.report.matrices import chart_width_and_depth
from cnnbench.report.pairs import make_pairs
from cnnbench.report.robustness import chart_robustness
from cnnbench.report.runs import Run
from cnnbench.report.shares import NOTE as VARIANCE_NOTE
from cnnbench.report.shares import tabulate_variance
from cnnbench.report.study import Study
from cnnbench.report.svg import Chart
from cnnbench.report.tables import Table, tabulate_comparisons, tabulate_details, tabulate_groups, tabulate_runs
from cnnbench.runs.folder import FINISHED

MOST_SETTINGS = 80  # of a config in a drawer, more than anybody writes by hand
MOST_SHARED = 500
CURVES_NOTE = (
    "The test images are used only once, after training. Training figures are taken while the weights change, on the "
    "images as augmented and with dropout: a validation accuracy above the training accuracy is no error."
)


@dataclass(frozen=True)
class Finding:
    """Comparisons with one group that share a verdict; each has a line of figures."""

    b: str
    words: str
    verdict: str
    groups: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ChartSection:
    """A section of charts, below a table if there is one; the page shows it if it has any of these or a note.

    Attributes:
        name: the section's id, to which the navigation links.
        title: its name in the navigation, and its heading if `heading` is empty.
    """

    name: str
    title: str
    charts: Sequence[Chart]
    note: str = ""
    heading: str = ""
    is_wide: bool = False
    table: Table | None = None

    @property
    def link(self) -> tuple[str, str]:
        """Its id and name in the navigation."""
        return self.name, self.title


@dataclass(frozen=True)
class Drawer:
    """The details of a run below its row; `environment` is a number from 1, or 0 if none was recorded."""

    run: Run
    settings: Sequence[tuple[str, str]]
    asked: str
    environment: int


def render_page(study: Study) -> str:
    """The page's HTML; its Content-Security-Policy allows only its own script, by hash."""
    script = read_template("report.js")
    pairs, problems = make_pairs(study)
    # Keys that all runs share are listed once, and each run's drawer has only the others.
    flats = [_flatten(run) for run in study.runs]
    shared = dict(set(flats[0].items()).intersection(*(one.items() for one in flats[1:]))) if flats else {}
    drawers, environments = _make_drawers(study.runs, flats, shared)
    context = {
        "study": study,
        "names": list(dict.fromkeys(run.label for run in study.runs if run.label)),
        "data": list(dict.fromkeys(str(run.summary["data"]) for run in study.runs if run.summary.get("data"))),
        "findings": _find_findings(study),
        "lost": [(place, run) for place, run in enumerate(study.runs, 1) if run.state != FINISHED],
        "notes": [*(note.text for note in study.notes if note.kind != "unfinished"), *problems],
        "groups": tabulate_groups(study).adapt_to("page"),
        "details": tabulate_details(study).adapt_to("page"),
        "chart_sections": _make_chart_sections(study),
        "pairs": pairs,
        "runs": tabulate_runs(study).adapt_to("page"),
        "drawers": drawers,
        "environments": environments,
        "shared": [(key, value) for key, value in (flats[0] if flats else {}).items() if key in shared][:MOST_SHARED],
        "script": Markup(script),
        "script_hash": hash_for_policy(script),
        "style": Markup(read_template("report.css")),
        "version": cnnbench.__version__,
    }
    filters: dict[str, Callable[..., Any]] = {
        "make_legible": make_legible,
        "make_lines_legible": make_lines_legible,
        "p": format_p_equation,
        "command": shlex.join,
    }
    return render("report.html.j2", context, filters, html=True)


def _make_chart_sections(study: Study) -> list[ChartSection]:
    costs, cost_note = chart_costs(study)
    against = list(study.against_baseline.values())
    differences = [chart_differences(against, shorten_names(study.groups, study.axes))] if against else []
    curves, curves_note = chart_curves(study)
    sections = (
        ChartSection(
            "folds",
            "Folds",
            [],
            heading=FOLDS_TITLE,
            table=tabulate_folds(study).adapt_to("page") if study.most_folds else None,
        ),
        ChartSection(
            "variance",
            "Variance",
            chart_variance(study),
            VARIANCE_NOTE if study.variance else "",
            heading="Where the variance comes from",
            is_wide=True,
            table=tabulate_variance(study).adapt_to("page") if study.variance else None,
        ),
        ChartSection("cost", "Cost", costs, cost_note, heading="Accuracy and what it costs"),
        ChartSection("differences", "Differences", differences, is_wide=True),
        ChartSection("curves", "Learning curves", curves, f"{CURVES_NOTE} {curves_note}" if curves else ""),
        _make_calibration_section(study),
        ChartSection("robustness", "Robustness", *chart_robustness(study)),
        ChartSection("heatmaps", "Width and depth", chart_width_and_depth(study)),
    )
    return [section for section in sections if section.charts or section.note or section.table]


def _make_calibration_section(study: Study) -> ChartSection:
    table = tabulate_calibration(study).adapt_to("page")
    heading = "How far probabilities can be trusted"
    if not table.rows:
        return ChartSection("calibration", heading, [])
    return ChartSection(
        "calibration", "Calibration", chart_calibration(study), CALIBRATION_NOTE, heading=heading, table=table
    )


def _find_findings(study: Study) -> list[Finding]:
    """Collect the verdicts, significant ones first; groups with the same verdict stand together."""
    table = tabulate_comparisons(study).adapt_to("page")
    figures = {
        (one.a, one.b): " · ".join(
            f"{column.heading}: {cell.text}"
            for column, cell in zip(table.columns, row, strict=True)
            if cell.text and column.kind != "name" and column.title != "verdict"
        )
        for one, row in zip(study.comparisons, table.rows, strict=True)
    }
    by_words: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in sorted(study.comparisons, key=lambda one: (one.verdict not in TESTED, -abs(one.mean))):
        by_words.setdefault((comparison.b, comparison.words), []).append(comparison)
    return [
        Finding(b, words, alike[0].verdict, [(one.a, figures[one.a, one.b]) for one in alike])
        for (b, words), alike in by_words.items()
    ]


def _make_drawers(
    runs: Sequence[Run], flats: Sequence[dict[str, str]], shared: dict[str, str]
) -> tuple[list[Drawer], list[tuple[list[tuple[str, str]], int]]]:
    """A drawer for each run, and the entries of each environment with its number of runs."""
    known: list[str] = []
    counts: Counter[str] = Counter()
    drawers = []
    for run, own in zip(runs, flats, strict=True):
        entries = [(key, format_setting(value)) for key, value in run.environment.items() if key != "command"]
        text = json.dumps(entries[:MOST_SETTINGS])
        if entries and text not in counts:
            known.append(text)
        counts[text] += 1
        settings = [item for item in own.items() if item[0] not in shared][:MOST_SETTINGS]
        drawers.append(Drawer(run, settings, _find_command(run), known.index(text) + 1 if entries else 0))
    return drawers, [(json.loads(text), counts[text]) for text in known]


def _flatten(run: Run) -> dict[str, str]:
    settings: dict[str, Any] = select_settings(run.config)
    return {key: format_setting(value) for key, value in settings.items()} | {"seed": format_setting(run.seed)}


def _find_command(run: Run) -> str:
    """The command that a run was part of, such as that of a sweep; empty if it only made this run."""
    # The first two words are `cnnbench train`; a run by itself was given just the overrides that it records.
    command = run.environment.get("command")
    if not isinstance(command, list) or [*map(str, command[2:])] == run.overrides:
        return ""
    return shlex.join(map(str, command))
