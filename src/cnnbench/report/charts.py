"""Charts of groups: differences from the baseline, shares of the variance, and learning curves."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnbench.metrics import find_metric
from cnnbench.report.comparing import TESTED, Comparison
from cnnbench.report.curves import Curve, draw_curves
from cnnbench.report.formatting import format_interval, format_points, make_legible
from cnnbench.report.groups import Group, shorten_names
from cnnbench.report.shares import format_ratio
from cnnbench.report.study import Study
from cnnbench.report.svg import (
    INK,
    PAPER,
    SERIES,
    SIZE,
    Chart,
    Tips,
    make_chart,
    use_page_style,
)
from cnnbench.report.variance import VarianceShare
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.storage.plain_data import is_number
from cnnbench.storage.text import format_percent

MOST_DIFFERENCES = 30
MOST_SHARES = 30
SPLITS = {"val": "validation", "train": "training"}


def chart_differences(comparisons: Sequence[Comparison], short: Mapping[str, str]) -> Chart:
    """Chart the largest differences from the baseline with their intervals, in percentage points.

    Args:
        comparisons: at least one.
        short: by the label of a group, how a chart writes it.
    """
    kept = sorted(comparisons, key=lambda one: -abs(one.mean))[:MOST_DIFFERENCES]
    drawn = sorted(kept, key=lambda one: -one.mean)
    limits = _find_limits(drawn)
    note = (
        "Orange diamonds: the test says better or worse; open circles: no difference shown, too few seeds, or no "
        "test. Lines: 95 % interval, not corrected for the number of comparisons; the verdict is."
    )
    if any(_exceeds(end, limits) for one in drawn for end in (one.low, one.high)):
        note += " An arrowhead: the interval is longer than the picture is wide; the table has it in full."
    if len(drawn) < len(comparisons):
        note += f" The {len(drawn)} largest of {len(comparisons)} differences."
    rows = [
        (one.a, format_points(one.mean), format_interval(one.low, one.high, format_points), one.size, one.verdict)
        for one in drawn
    ]
    header = ("group", "difference, points", "95 % interval", "n", "verdict")
    figure, tips = _draw_differences(drawn, short, limits)
    title = f"Difference from {make_legible(comparisons[0].b, 60)}"
    return make_chart(figure, "differences-chart", title, note, header, rows, tips)


def _draw_differences(
    comparisons: Sequence[Comparison], short: Mapping[str, str], limits: tuple[float, float]
) -> tuple[Figure, Tips]:
    tips = {}
    with use_page_style():
        figure = Figure(figsize=(SIZE[0] * 1.35, 1.1 + 0.24 * len(comparisons)))
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        _draw_intervals(axes, comparisons)
        for place, one in enumerate(comparisons):
            for end, side, arrow in ((one.low, limits[0], "<"), (one.high, limits[1], ">")):
                if _exceeds(end, limits):
                    axes.plot(side, place, arrow, color=SERIES[0], markersize=4.5, clip_on=False)
        for gid, is_tested, marker, colour, edge in (
            ("tested", True, "D", SERIES[1], PAPER),
            ("untested", False, "o", PAPER, SERIES[0]),
        ):
            places = [place for place, one in enumerate(comparisons) if (one.verdict in TESTED) is is_tested]
            if places:
                x = [100 * comparisons[place].mean for place in places]
                axes.scatter(x, places, marker=marker, s=34, color=colour, edgecolor=edge, zorder=3, gid=gid)
                tips[gid] = [_describe(comparisons[place]) for place in places]
        axes.set_yticks(range(len(comparisons)), shorten_distinctly([short[one.a] for one in comparisons], 44))
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.set_xlim(limits)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("difference in test accuracy (percentage points)")
    return figure, tips


def _draw_intervals(axes: Axes, rows: Sequence[Comparison | VarianceShare]) -> None:
    """Draw the interval of each row, in percent, as a line at its place."""
    for place, one in enumerate(rows):
        if one.low is not None and one.high is not None:
            axes.plot([100 * one.low, 100 * one.high], [place, place], color=SERIES[0], linewidth=1.6)


def _describe(one: Comparison) -> str:
    return f"{one.a}\n{one.difference}, n = {one.size}\n{one.verdict}"


def _find_limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """The range of the axis: zero, every mean and every interval, except an interval far longer than the others."""
    widest = [max(abs(one.low), abs(one.high)) for one in comparisons if one.low is not None and one.high is not None]
    # With two seeds, an interval can be many times as long as all others, which then would be too short to see.
    usual = 1.5 * statistics.median(widest) if widest else 0.0
    reach = max(3 * max(abs(one.mean) for one in comparisons), usual) or 0.01
    ends = [0.0, *(v for one in comparisons for v in (one.low, one.mean, one.high) if v is not None)]
    low, high = max(min(ends), -reach), min(max(ends), reach)
    room = 0.05 * (high - low) or 0.01
    return 100 * (low - room), 100 * (high + room)


def _exceeds(end: float | None, limits: tuple[float, float]) -> bool:
    return end is not None and not limits[0] <= 100 * end <= limits[1]


def chart_variance(study: Study) -> list[Chart]:
    """Chart each share with its interval; no chart without shares."""
    shares = study.variance[:MOST_SHARES]
    if not shares:
        return []
    several = len({one.group for one in shares}) > 1
    names = [f"{make_legible(one.group, 30)}: {one.source}" if several else one.source for one in shares]
    limit = 250 * max(1.0, *(one.share for one in shares))  # the interval of two runs ends thousands of times higher
    with use_page_style():
        figure = Figure(figsize=(SIZE[0] * 1.35, 1.0 + 0.24 * len(shares)))
        axes = figure.subplots()
        axes.axvline(100, color=INK, linewidth=0.8)
        _draw_intervals(axes, shares)
        x = [100 * one.share for one in shares]
        axes.scatter(x, range(len(x)), s=34, color=SERIES[0], edgecolor=PAPER, zorder=3, gid="shares")
        axes.set_yticks(range(len(x)), names)
        axes.set_ylim(len(x) - 0.5, -0.5)
        axes.set_xlim(0, limit)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("variance, in % of that of all seeds together")
    intervals = [format_interval(one.low, one.high, format_ratio) for one in shares]
    tips = [
        f"{name}\n{format_ratio(one.share)} % {interval}"
        for name, one, interval in zip(names, shares, intervals, strict=True)
    ]
    note = "Dots: share of the variance; lines: its 95 % interval; vertical line: all seeds together."
    if any(one.high is not None and 100 * one.high > limit for one in shares):
        note += " Some intervals are longer than the picture is wide; the table has them in full."
    return [make_chart(figure, "variance-chart", "Shares of the variance", note, (), (), {"shares": tips})]


def chart_curves(study: Study) -> tuple[list[Chart], str]:
    """Chart accuracy and loss by epoch for as many groups as there are colours; with a note on what is missing."""
    groups = study.ranked or study.groups
    drawn, short = groups[: len(SERIES)], shorten_names(study.groups, study.axes)
    rows = [[row for run in group.runs for row in run.read_epochs()] for group in drawn]
    charts = []
    for metric, unit in (("accuracy", "%"), ("loss", "nats" if study.measured else "mean squared error")):
        gathered = (
            _gather_curve(rows[number], f"{split}/{metric}", number, group, short[group.label])
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


def _gather_curve(
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
    """Chart means by epoch, with a band from the lowest to the highest seed."""

    def describe(curve: Curve, place: int) -> str:
        low, high = (_write(values[place], unit) for values in (curve.low, curve.high))
        figure = f"{_write(curve.mean[place], unit)} {unit}, seeds {low} to {high}, n = {curve.n[place]}"
        return f"{curve.label}\n{SPLITS[curve.part]}, epoch {curve.x[place]}: {figure}"

    figure, axes, tips = draw_curves(curves, SPLITS, describe)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel=f"{metric} ({unit})")
    splits = [split for split in SPLITS if any(curve.part == split for curve in curves)]
    rows = [
        (
            curve.label,
            SPLITS[curve.part],
            str(curve.x[-1]),
            _write(curve.mean[-1], unit),
            f"{_write(curve.low[-1], unit)} to {_write(curve.high[-1], unit)}",
            str(curve.n[-1]),
        )
        for curve in curves
    ]
    only = f", for {SPLITS[splits[0]]} only" if len(splits) > 1 else ""
    note = f"Lines: mean over the seeds; bands: from the lowest seed to the highest{only}."
    header = ("group", "split", "last epoch", f"mean ({unit})", "seeds", "n")
    return make_chart(figure, f"curve-{metric}", metric.capitalize(), note, header, rows, tips)


def _write(value: float, unit: str) -> str:
    return format_percent(value / 100, sign="") if unit == "%" else f"{value:.4g}"
