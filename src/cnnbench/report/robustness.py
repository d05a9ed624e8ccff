"""Accuracy and consistency of groups against the strength of each change, as charts, tables and files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnbench.report.curves import Curve, add_legend, draw_curve, draw_group_curves
from cnnbench.report.formatting import format_interval, format_share, make_legible
from cnnbench.report.groups import shorten_names
from cnnbench.report.statistics import Estimate, estimate
from cnnbench.report.study import Study
from cnnbench.report.svg import LABEL, SERIES, Chart, make_chart, use_page_style
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.runs.figures import save_figure
from cnnbench.runs.robustness import Robustness, locate_result, read_robustness
from cnnbench.storage.text import join_some

PARTS = {"accuracy": "accuracy", "consistency": "same class as unchanged"}
NOTE = (
    "Accuracy on test images that are changed, and the share of the images that get the same class as without the "
    "change. Several changes of one strength, such as shifts in all directions, are averaged."
)
BANDS = "Lines: mean over the seeds; bands: 95 % interval of the mean accuracy, where there are several seeds."
MOST_KINDS, MOST_STRENGTHS = 16, 200  # in a report; a file from elsewhere may have any number
COLUMNS, BAND = 4, 0.18  # panels in a row of the picture, and how strong its bands are
Results = Mapping[str, Sequence[Robustness]]  # of a group's runs, by its label


@dataclass(frozen=True)
class Point:
    """A group's figures at one strength, over its seeds."""

    strength: float
    accuracy: Estimate
    consistency: Estimate


def gather_points(results: Sequence[Robustness], kind: str) -> list[Point]:
    """The figures of a group's runs under a kind of change, by strength; empty if no run was measured under it."""
    values: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for result in results:
        by_strength = defaultdict(list)
        for row in result.select(kind):
            by_strength[row.strength].append((row.accuracy, row.consistency))
        for strength, figures in by_strength.items():
            accuracy, consistency = np.mean(figures, axis=0)
            values[strength].append((float(accuracy), float(consistency)))
    return [
        Point(strength, *(estimate(figures) for figures in zip(*pairs, strict=True)))
        for strength, pairs in sorted(values.items())[:MOST_STRENGTHS]
    ]


def list_kinds(results: Results) -> dict[str, str]:
    """The kinds of change under which any run was measured, and the unit of each."""
    rows = (row for several in results.values() for result in several for row in result.rows)
    return dict(islice({row.kind: make_legible(row.unit, 40) for row in rows}.items(), MOST_KINDS))


def chart_robustness(study: Study) -> tuple[list[Chart], str]:
    """Chart each kind of change for as many groups as there are colours; with a note on what is missing."""
    results, problems = _read_results(study)
    if not results:
        return [], " ".join(problems)
    short, notes = shorten_names(study.groups, study.axes), [NOTE, *problems]
    everything = [result for several in results.values() for result in several]
    if len({result.images_sha256 for result in everything}) > 1:
        sizes = join_some([f"{count:,}" for count in sorted({result.images for result in everything})], 6)
        notes.append(f"The runs were not measured on the same images ({sizes} images).")
    if len(results) < len(study.measured):
        notes.append(
            f"Drawn are {len(results)} of {len(study.measured)} groups: those that `cnnbench robustness` measured."
        )
    kinds = enumerate(list_kinds(results).items(), 1)
    charts = [_chart_kind(f"robustness-{number}", results, kind, unit, short) for number, (kind, unit) in kinds]
    return charts, " ".join(notes)


def _read_results(study: Study) -> tuple[dict[str, list[Robustness]], list[str]]:
    """What is beside the runs of each group, for the test split, and which files could not be read."""
    results, problems = {}, []
    for group in study.ranked:
        found = []
        for run in group.runs:
            try:
                found.append(read_robustness(locate_result(run.path, "test")))
            except (ValueError, OSError) as error:
                problems.append(f"Robustness of run {run.name} is left out: {error}.")
        if measured := [one for one in found if one is not None]:
            results[group.label] = measured
    return dict(list(results.items())[: len(SERIES)]), problems


def draw_picture(path: Path, results: Results, short: Mapping[str, str]) -> None:
    """Draw every kind of change into one PNG, with a line for each group.

    Args:
        short: how a picture writes each group.
    """
    kinds, drawn = list_kinds(results), dict(list(results.items())[: len(SERIES)])
    columns = min(len(kinds), COLUMNS)
    rows = -(-len(kinds) // columns)
    with use_page_style(), rc_context({"savefig.transparent": False}):
        figure = Figure(figsize=(3.2 * columns, 2.5 * rows + 0.4 + 0.17 * len(drawn)))
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (kind, unit) in zip(places, kinds.items(), strict=False):
            for curve in _list_curves(drawn, kind, short):
                draw_curve(axes, curve, BAND if curve.part == "accuracy" else None)
            _label_axes(axes, kind, unit)
        for axes in places[len(kinds) :]:
            axes.axis("off")
        names = shorten_distinctly([short[label] for label in drawn], 2 * LABEL)
        add_legend(figure, figure.axes[0], dict(enumerate(names)), list(PARTS.values()), 2)
        save_figure(figure, path)


def _chart_kind(name: str, results: Results, kind: str, unit: str, short: Mapping[str, str]) -> Chart:
    def describe(curve: Curve, place: int) -> str:
        low, mean, high = (values[place] / 100 for values in (curve.low, curve.mean, curve.high))
        interval = f" {format_interval(low, high)}" if low < high else ""
        figure = f"{format_share(mean)}{interval}, n = {curve.n[place]}"
        return f"{curve.label}\n{curve.x[place]:g} {unit}\n{PARTS[curve.part]}: {figure}"

    figure, axes, tips = draw_group_curves(_list_curves(results, kind, short), PARTS, describe)
    _label_axes(axes, kind, unit)
    rows = []
    for label, several in results.items():
        for point in gather_points(several, kind):
            accuracy, same = point.accuracy, format_share(point.consistency.mean)
            interval = format_interval(*accuracy.compute_bounds())
            rows.append((label, f"{point.strength:g}", format_share(accuracy.mean), interval, same, str(accuracy.n)))
    header = ("group", unit, "accuracy", "95 % interval", "same class", "n")
    return make_chart(figure, name, make_legible(kind, 40).capitalize(), BANDS, header, rows, tips)


def _label_axes(axes: Axes, kind: str, unit: str) -> None:
    axes.set(xlabel=f"{make_legible(kind, 40)} ({unit})", ylabel="%")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=kind == "shift"))


def _list_curves(results: Results, kind: str, short: Mapping[str, str]) -> list[Curve]:
    """Accuracy and consistency of each group under a kind of change."""
    curves = []
    for number, (label, several) in enumerate(results.items()):
        points = gather_points(several, kind)
        x = np.array([point.strength for point in points])
        for part in PARTS if points else ():
            found: list[Estimate] = [getattr(point, part) for point in points]
            mean, n = np.array([100 * one.mean for one in found]), np.array([one.n for one in found])
            # Without an interval, the band is as thin as the line.
            ends = [[one.mean if end is None else end for end in one.compute_bounds()] for one in found]
            low, high = 100 * np.array(ends).T
            curves.append(Curve(number, label, short[label], part, x, mean, low, high, n))
    return curves
