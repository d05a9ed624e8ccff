"""`report.html`: a study as one file that needs no network, and can be read without scripts."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

import cnnbench
from cnnbench.report.charts import chart_differences, chart_variance
from cnnbench.report.comparing import TESTED, Comparison
from cnnbench.report.cost_chart import chart_costs
from cnnbench.report.curves import chart_curves, chart_reliability
from cnnbench.report.documents import hash_for_policy, read_template, render
from cnnbench.report.formatting import format_p_equation, make_legible, make_lines_legible
from cnnbench.report.groups import format_setting, select_settings, shorten_names
from cnnbench.report.matrices import chart_width_and_depth
from cnnbench.report.pairs import make_pairs
from cnnbench.report.robustness import chart_robustness
from cnnbench.report.runs import Run
from cnnbench.report.section_tables import tabulate_calibration, tabulate_folds, tabulate_variance
from cnnbench.report.study import Study
from cnnbench.report.svg import Chart
from cnnbench.report.tables import Table, tabulate_comparisons, tabulate_details, tabulate_groups, tabulate_runs
from cnnbench.runs.folder import FINISHED

MOST_SETTINGS = 80  # of a config in a drawer, more than anybody writes by hand
MOST_SHARED = 500
# Parts of a config that were objects of a Python program, by the names that `models.given` and `data.sets.arrays` give
# them: both modules import torch, and a report must not.
OBJECTS = (("model", "module", "network"), ("data", "arrays", "data"))
CURVES_NOTE = (
    "The test images are used only once, after training. Training figures are taken while the weights change, on the "
    "images as augmented and with dropout: a validation accuracy above the training accuracy is no error."
)


@dataclass(frozen=True)
class SharedVerdict:
    """Comparisons with one group that share a verdict; each has a line of figures."""

    b: str
    words: str
    verdict: str
    groups: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ChartSection:
    """A section of charts, below a table if there is one; the page shows it if it has any of these or a note."""

    name: str  # the section's id, to which the navigation links
    title: str  # its name in the navigation, and its heading if `heading` is empty
    charts: Sequence[Chart]
    note: str = ""
    heading: str = ""
    is_wide: bool = False
    table: Table | None = None


@dataclass(frozen=True)
class Drawer:
    """The details of a run below its row."""

    run: Run
    settings: Sequence[tuple[str, str]]
    objects: Sequence[str]  # what the run got as objects of a Python program, which no command can name
    larger: str  # the command that the run was part of, such as that of a sweep; empty if it made only this run
    environment: int  # its number from 1, or 0 if none was recorded


def render_page(study: Study) -> str:
    """The page's HTML; its Content-Security-Policy allows only its own script, by hash."""
    script = read_template("report.js")
    pairs, problems = make_pairs(study)
    # Keys that all runs share are listed once, and each run's drawer has only the others.
    flats = [_flatten(run) for run in study.runs]
    shared = dict(set(flats[0].items()).intersection(*(one.items() for one in flats[1:]))) if flats else {}
    drawers, environments = _make_drawers(study.runs, flats, shared)
    sections = _make_chart_sections(study)
    context = {
        "study": study,
        "names": list(dict.fromkeys(run.given_name for run in study.runs if run.given_name)),
        "data": list(dict.fromkeys(str(run.summary["data"]) for run in study.runs if run.summary.get("data"))),
        "findings": _collect_verdicts(study),
        "lost": [(place, run) for place, run in enumerate(study.runs, 1) if run.state != FINISHED],
        "notes": [*(note.text for note in study.notes if note.kind != "unfinished"), *problems],
        "groups": tabulate_groups(study).adapt_to("page"),
        "details": tabulate_details(study).adapt_to("page"),
        "chart_sections": sections,
        "chart_links": [(section.name, section.title) for section in sections],
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
    folds, variance, calibration = (
        table.adapt_to("page") if table.rows else None
        for table in (tabulate_folds(study), tabulate_variance(study), tabulate_calibration(study))
    )
    against = list(study.against_baseline.values())
    differences = [chart_differences(against, shorten_names(study.groups, study.axes))] if against else []
    costs, costs_note = chart_costs(study)
    curves, curves_note = chart_curves(study)
    robustness, robustness_note = chart_robustness(study)
    sections = (
        ChartSection("folds", "Folds", [], heading="Folds (test accuracy)", table=folds),
        ChartSection("variance", "Variance", chart_variance(study), heading="Where the variance comes from",
                     is_wide=True, table=variance),
        ChartSection("cost", "Cost", costs, costs_note, heading="Accuracy and what it costs"),
        ChartSection("differences", "Differences", differences, is_wide=True),
        ChartSection("curves", "Learning curves", curves, f"{CURVES_NOTE} {curves_note}" if curves else ""),
        ChartSection("calibration", "Calibration", chart_reliability(study) if calibration else [],
                     heading="How far probabilities can be trusted", table=calibration),
        ChartSection("robustness", "Robustness", robustness, robustness_note),
        ChartSection("heatmaps", "Width and depth", chart_width_and_depth(study)),
    )  # fmt: skip
    return [section for section in sections if section.charts or section.note or section.table]


def _collect_verdicts(study: Study) -> list[SharedVerdict]:
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
        SharedVerdict(b, words, alike[0].verdict, [(one.a, figures[one.a, one.b]) for one in alike])
        for (b, words), alike in by_words.items()
    ]


def _make_drawers(
    runs: Sequence[Run], flats: Sequence[dict[str, str]], shared: dict[str, str]
) -> tuple[list[Drawer], list[tuple[list[tuple[str, str]], int]]]:
    """A drawer for each run, and the entries of each environment with its number of runs."""
    counts: Counter[str] = Counter()  # in the order of the runs
    drawers = []
    for run, own in zip(runs, flats, strict=True):
        entries = [(key, format_setting(value)) for key, value in run.environment.items() if key != "command"]
        text = json.dumps(entries[:MOST_SETTINGS])
        if entries:
            counts[text] += 1
        settings = [item for item in own.items() if item[0] not in shared][:MOST_SETTINGS]
        number = [*counts].index(text) + 1 if entries else 0
        drawers.append(Drawer(run, settings, _name_objects(run), _find_larger_command(run), number))
    return drawers, [(json.loads(text), count) for text, count in counts.items()]


def _flatten(run: Run) -> dict[str, str]:
    settings: dict[str, Any] = select_settings(run.config)
    return {key: format_setting(value) for key, value in settings.items()} | {"seed": format_setting(run.seed)}


def _name_objects(run: Run) -> list[str]:
    parts = ((run.config.get(section), name, words) for section, name, words in OBJECTS)
    return [words for part, name, words in parts if isinstance(part, dict) and part.get("name") == name]


def _find_larger_command(run: Run) -> str:
    # The first two words are `cnnbench train`; a run by itself was given just the overrides that it records.
    command = run.environment.get("command")
    if not isinstance(command, list) or [*map(str, command[2:])] == run.overrides:
        return ""
    return shlex.join(map(str, command))
