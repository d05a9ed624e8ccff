"""Charts with a row per item: differences from the baseline, shares of the variance, and F1 of each class."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnbench.report.comparing import TESTED, Comparison
from cnnbench.report.formatting import format_change, format_interval, format_points, format_ratio, make_legible
from cnnbench.report.study import Study
from cnnbench.report.svg import GRID, INK, MARKERS, PAPER, SERIES, SIZE, Chart, Tips, make_chart, use_page_style
from cnnbench.report.variance import VarianceShare
from cnnbench.runs.class_names import shorten_distinctly

MOST_DIFFERENCES = 30
MOST_SHARES = 30
SCORED_CLASSES = 30  # of the F1 chart


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
                tips[gid] = [
                    f"{one.a}\n{one.difference}, n = {one.size}\n{one.verdict}"
                    for one in (comparisons[place] for place in places)
                ]
        _label_rows(axes, shorten_distinctly([short[one.a] for one in comparisons], 44))
        axes.set(xlim=limits, xlabel="difference in test accuracy (percentage points)")
    return figure, tips


def _draw_intervals(axes: Axes, rows: Iterable[Comparison | VarianceShare]) -> None:
    """Draw the interval of each row, in percent, as a line at its place."""
    for place, one in enumerate(rows):
        if one.low is not None and one.high is not None:
            axes.plot([100 * one.low, 100 * one.high], [place, place], color=SERIES[0], linewidth=1.6)


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart, the first one at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


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
    # The interval of two runs ends thousands of times higher, and would press all others into the axis.
    limit = 250 * max(1.0, *(one.share for one in shares))
    with use_page_style():
        figure = Figure(figsize=(SIZE[0] * 1.35, 1.0 + 0.24 * len(shares)))
        axes = figure.subplots()
        axes.axvline(100, color=INK, linewidth=0.8)
        _draw_intervals(axes, shares)
        x = [100 * one.share for one in shares]
        axes.scatter(x, range(len(x)), s=34, color=SERIES[0], edgecolor=PAPER, zorder=3, gid="shares")
        _label_rows(axes, names)
        axes.set(xlim=(0, limit), xlabel="variance, in % of that of all seeds together")
    tips = [
        f"{name}\n{format_ratio(one.share)} % {format_interval(one.low, one.high, format_ratio)}"
        for name, one in zip(names, shares, strict=True)
    ]
    note = "Dots: share of the variance; lines: its 95 % interval; vertical line: all seeds together."
    if any(one.high is not None and 100 * one.high > limit for one in shares):
        note += " Some intervals are longer than the picture is wide; the table has them in full."
    return [make_chart(figure, "variance-chart", "Shares of the variance", note, (), (), {"shares": tips})]


def chart_f1(name: str, labels: tuple[str, str], classes: Sequence[str], scores: Sequence[np.ndarray]) -> Chart:
    """Chart F1 of each class for two groups; of many classes, those that differ most.

    Args:
        scores: two of (seeds, K).
    """
    first, second = (part.mean(0) for part in scores)
    chosen = np.sort(np.argsort(-np.abs(second - first), kind="stable")[:SCORED_CLASSES])
    figure, tips = _draw_f1(labels, [classes[k] for k in chosen], [part[:, chosen] for part in scores])
    rows = [(classes[k], f"{first[k]:.4f}", f"{second[k]:.4f}", format_change(second[k] - first[k], 4)) for k in chosen]
    note = "Marks: mean over the seeds; thin lines: from the lowest seed to the highest."
    if len(chosen) < len(classes):
        note += f" The {len(chosen)} of {len(classes)} classes that differ most."
    header = ("class", *(make_legible(label, 60) for label in labels), "difference")
    return make_chart(figure, name, "F1 of each class", note, header, rows, tips)


def _draw_f1(labels: tuple[str, str], classes: Sequence[str], scores: Sequence[np.ndarray]) -> tuple[Figure, Tips]:
    tips, rows = {}, np.arange(len(classes))
    with use_page_style():
        columns, longest = (2, 40) if max(map(len, labels)) <= 40 else (1, 80)
        figure = Figure(figsize=(6.2, 0.9 + 0.2 * (2 // columns) + 0.21 * len(classes)))
        axes = figure.subplots()
        axes.hlines(rows, scores[0].mean(0), scores[1].mean(0), color=GRID, linewidth=3, zorder=1)
        legend = shorten_distinctly(labels, longest)
        for side, (label, part) in enumerate(zip(labels, scores, strict=True)):
            low, mean, high = part.min(0), part.mean(0), part.max(0)
            gid, colour, height = f"side{side}", SERIES[side], rows + (0.14, -0.14)[side]
            axes.hlines(height, low, high, color=colour, linewidth=1)
            axes.scatter(
                mean, height, marker=MARKERS[side], s=24, color=colour, edgecolor=PAPER, zorder=3, gid=gid,
                label=legend[side],
            )  # fmt: skip
            tips[gid] = [
                f"{label}\n{class_}: F1 {mean[k]:.4f}, seeds {low[k]:.4f} to {high[k]:.4f}, n = {len(part)}"
                for k, class_ in enumerate(classes)
            ]
        _label_rows(axes, shorten_distinctly(classes, 22))
        axes.set_ylim(len(classes) - 0.4, -0.6)  # room for the marks, which lie beside their row
        axes.set_xlabel("F1 of the class")
        figure.legend(loc="outside upper left", ncols=columns)
    return figure, tips
