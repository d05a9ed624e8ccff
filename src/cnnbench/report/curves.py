"""Lines with bands for several groups in one chart: learning curves, and accuracy against confidence.

Colours and markers tell groups apart, dashes what a line shows.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnbench.metrics import find_metric
from cnnbench.metrics.calibration import BINS, Reliability, measure_reliability
from cnnbench.report.formatting import make_legible
from cnnbench.report.groups import Group, shorten_names
from cnnbench.report.runs import CALIBRATED, TEMPERATURE, Run
from cnnbench.report.study import Study
from cnnbench.report.svg import LABEL, MARKERS, MUTED, PAPER, SERIES, SIZE, Chart, Tips, make_chart, use_page_style
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.runs.contents import read_predictions
from cnnbench.storage.plain_data import is_number
from cnnbench.storage.text import format_percent

MARKS = 40  # points of a curve that have a tooltip
LINE = 1.4  # points, the width of a curve
FIRST, SECOND = "-", (0, (2, 1.5))  # dashes, of the first part and of the second beside it
SPLITS = {"val": "validation", "train": "training"}
PROBABILITIES = {"test": "as trained", CALIBRATED: "calibrated"}  # by the prefix of their figures in a summary
RELIABILITY_NOTE = (
    f"Each mark: one of up to {BINS} bins of images by confidence, the probability of the predicted class. Lines: mean "
    "over the seeds; bands: from the lowest seed to the highest. Below the dotted line, a network is too confident."
)


@dataclass(frozen=True)
class Curve:
    """A figure over the seeds of a group at each x, (X,) each: mean, ends of the band, and number of runs."""

    number: int  # of the group, which gives it colour and marker
    label: str
    short: str  # how a chart writes the group
    part: str  # what the line shows, such as `val` or `train`
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray  # the ends of the band; where they equal the mean, there is none
    high: np.ndarray
    n: np.ndarray


def draw_group_curves(
    curves: Sequence[Curve], parts: Mapping[str, str], describe: Callable[[Curve, int], str]
) -> tuple[Figure, Axes, Tips]:
    """Draw curves with their legend; only the first part has bands.

    Args:
        parts: what each part is called in the legend, the first one first.
        describe: the tooltip of a curve's point.
    """
    tips = {}
    groups = {curve.number: curve.short for curve in curves}
    shown = [part for part in parts if any(curve.part == part for curve in curves)]
    with use_page_style():
        columns, longest = (2, LABEL) if all(len(short) <= LABEL for short in groups.values()) else (1, 2 * LABEL)
        entries = len(groups) * (len(groups) > 1) + len(shown)
        figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.17 * math.ceil(entries / columns)))
        axes = figure.subplots()
        for curve in curves:
            alpha = 0.18 if len(curves) < 5 else 0.1
            marked = draw_curve(axes, curve, alpha if curve.part == shown[0] else None)
            tips[_make_gid(curve)] = [describe(curve, place) for place in marked]
        names = dict(zip(groups, shorten_distinctly(list(groups.values()), longest), strict=True))
        add_legend(figure, axes, names, [parts[part] for part in shown], columns)
    return figure, axes, tips


def add_legend(figure: Figure, axes: Axes, groups: Mapping[int, str], parts: Sequence[str], columns: int) -> None:
    """Add a legend of groups by colour and marker, and of parts by dashes."""
    if len(groups) > 1:
        for number, name in groups.items():
            axes.plot([], [], color=SERIES[number], marker=MARKERS[number], markersize=4, linestyle="none", label=name)
    for part, dashes in zip(parts, (FIRST, SECOND), strict=False):
        axes.plot([], [], color=MUTED, linestyle=dashes, linewidth=LINE, label=part)
    figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.4, handletextpad=0.6, handlelength=3)


def draw_curve(axes: Axes, curve: Curve, alpha: float | None) -> list[int]:
    """Draw a line, its band and its marks; without `alpha`, a dashed line with hollow marks and no band.

    Returns:
        Which points have a mark.
    """
    colour, marker = SERIES[curve.number], MARKERS[curve.number]
    if alpha is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=alpha, linewidth=0)
    axes.plot(curve.x, curve.mean, color=colour, linestyle=SECOND if alpha is None else FIRST, linewidth=LINE)
    few = np.unique(np.linspace(0, len(curve.mean) - 1, min(MARKS, len(curve.mean))).round().astype(int))
    inside = PAPER if alpha is None else colour
    axes.scatter(
        curve.x[few], curve.mean[few], marker=marker, s=16, color=inside, edgecolor=colour, zorder=3,
        gid=_make_gid(curve),
    )  # fmt: skip
    return few.tolist()


def _make_gid(curve: Curve) -> str:
    return f"{curve.part}{curve.number}"


def chart_curves(study: Study) -> tuple[list[Chart], str]:
    """Chart accuracy and loss by epoch for as many groups as there are colours; with a note on what is missing."""
    groups = study.ranked or study.groups
    drawn, short = groups[: len(SERIES)], shorten_names(study.groups, study.axes)
    rows = [[row for run in group.runs for row in run.read_epochs()] for group in drawn]
    charts = []
    for metric, unit in (("accuracy", "%"), ("loss", "nats" if study.measured else "mean squared error")):
        gathered = (
            _gather_epochs(rows[number], f"{split}/{metric}", number, group, short[group.label])
            for number, group in enumerate(drawn)
            for split in SPLITS
        )
        if curves := [curve for curve in gathered if curve]:
            charts.append(_chart_metric(metric, unit, curves))
    notes = []
    have_val = [any(is_number(row.get("val/loss")) for row in own) for own in rows]
    without = [group for group, has_val in zip(drawn, have_val, strict=True) if not has_val]
    if 0 < len(without) < len(drawn):
        names = ", ".join(make_legible(short[group.label], 60) for group in without)
        notes.append(f"Without a validation split, and so with training curves only: {names}.")
    if len(groups) > len(drawn):
        notes.append(f"Drawn are {len(drawn)} of {len(groups)} groups: the baseline and the most accurate ones.")
    return charts, " ".join(notes)


def _gather_epochs(
    rows: Sequence[Mapping[str, object]], key: str, number: int, group: Group, short: str
) -> Curve | None:
    factor = find_metric(key).factor
    values: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if is_number(row.get(key)):
            values[int(row["epoch"])].append(factor * float(row[key]))  # type: ignore[call-overload, arg-type]
    if not values:
        return None
    epochs = sorted(values)
    mean, low, high, n = (np.array([of(values[epoch]) for epoch in epochs]) for of in (np.mean, min, max, len))
    return Curve(number, group.label, short, key.partition("/")[0], np.array(epochs), mean, low, high, n)


def _chart_metric(metric: str, unit: str, curves: Sequence[Curve]) -> Chart:
    def write(value: float) -> str:
        return _write_percentage(value) if unit == "%" else f"{value:.4g}"

    def describe(curve: Curve, place: int) -> str:
        low, mean, high = (write(values[place]) for values in (curve.low, curve.mean, curve.high))
        figure = f"{mean} {unit}, seeds {low} to {high}, n = {curve.n[place]}"
        return f"{curve.label}\n{SPLITS[curve.part]}, epoch {curve.x[place]}: {figure}"

    figure, axes, tips = draw_group_curves(curves, SPLITS, describe)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel=f"{metric} ({unit})")
    rows = []
    for curve in curves:
        low, mean, high = (write(values[-1]) for values in (curve.low, curve.mean, curve.high))
        rows.append((curve.label, SPLITS[curve.part], str(curve.x[-1]), mean, f"{low} to {high}", str(curve.n[-1])))
    splits = [split for split in SPLITS if any(curve.part == split for curve in curves)]
    only = f", for {SPLITS[splits[0]]} only" if len(splits) > 1 else ""
    note = f"Lines: mean over the seeds; bands: from the lowest seed to the highest{only}."
    header = ("group", "split", "last epoch", f"mean ({unit})", "seeds", "n")
    return make_chart(figure, f"curve-{metric}", metric.capitalize(), note, header, rows, tips)


def _write_percentage(value: float) -> str:
    return format_percent(value / 100, sign="")


def chart_reliability(study: Study) -> list[Chart]:
    """Chart accuracy against confidence, before and after calibration, for as many groups as there are colours."""
    drawn = (study.ranked or study.groups)[: len(SERIES)]
    short = shorten_names(study.groups, study.axes)
    gathered = (
        _gather_bins(number, group, short[group.label], part)
        for number, group in enumerate(drawn)
        for part in PROBABILITIES
    )
    curves = [curve for curve in gathered if curve]
    if not curves:
        return []

    def describe(curve: Curve, place: int) -> str:
        x, low, mean, high = (_write_percentage(own[place]) for own in (curve.x, curve.low, curve.mean, curve.high))
        figure = f"{mean} % correct, seeds {low} to {high}, n = {curve.n[place]}"
        return f"{curve.label}\n{PROBABILITIES[curve.part]}, confidence {x} %: {figure}"

    figure, axes, tips = draw_group_curves(curves, PROBABILITIES, describe)
    lowest = min(min(curve.x.min(), curve.low.min()) for curve in curves)
    axes.plot([lowest, 100], [lowest, 100], color=MUTED, linestyle=":", linewidth=1, zorder=1)
    axes.set(xlabel="confidence (%)", ylabel="accuracy (%)")
    rows = [
        (curve.label, PROBABILITIES[curve.part], _write_percentage(x), _write_percentage(mean), str(n))
        for curve in curves
        for x, mean, n in zip(curve.x, curve.mean, curve.n, strict=True)
    ]
    note = RELIABILITY_NOTE
    if len(study.measured) > len(drawn):
        note += f" Drawn are {len(drawn)} of {len(study.measured)} groups."
    header = ("group", "probabilities", "confidence (%)", "accuracy (%)", "n")
    return [make_chart(figure, "reliability", "Reliability", note, header, rows, tips)]


def _gather_bins(number: int, group: Group, short: str, part: str) -> Curve | None:
    measured = [one for run in group.runs if (one := _measure_bins(run, part)) is not None]
    if not measured:
        return None
    # Bins are paired by their rank; a run may lack some, because of ties.
    filled = np.array([one.counts > 0 for one in measured])
    used = filled.any(0)
    confidence, accuracy = (
        100 * np.array([getattr(one, name) for one in measured])[:, used] for name in ("confidence", "accuracy")
    )
    x = np.nanmean(confidence, 0)
    order = np.argsort(x)
    mean, low, high = (of(accuracy, 0)[order] for of in (np.nanmean, np.nanmin, np.nanmax))
    return Curve(number, group.label, short, part, x[order], mean, low, high, filled.sum(0)[used][order])


def _measure_bins(run: Run, part: str) -> Reliability | None:
    temperature = run.summary.get(TEMPERATURE) if part == CALIBRATED else None
    if part == CALIBRATED and temperature is None:
        return None
    try:
        return measure_reliability(read_predictions(run.path), temperature)
    except (ValueError, OSError):  # missing or damaged; a note says so
        return None
