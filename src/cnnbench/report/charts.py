"""The charts of groups of runs: differences, learning curves, heatmaps; numbers in, `Chart` out."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnbench.report.svg import (  # fmt: skip
    INK,
    LABEL,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    SIZE,
    Chart,
    Tips,
    as_interval,
    as_percent,
    as_points,
    chart,
    drawing,
    ink_on,
    legible,
)
from cnnbench.runs.class_names import apart
from cnnbench.storage.text import format_percent

MARKS = 40  # epochs of a curve that have a hover value
LINE = 1.4  # points, the width of a curve
TRAINING, VALIDATION = "training", "validation"
FIRST, SECOND = "-", (0, (2, 1.5))  # dashes, of validation and of training beside it


@dataclass(frozen=True)
class Difference:
    """How far a group's accuracy lies from the baseline's, as a share, with the 95 % interval and the verdict."""

    label: str
    short: str
    mean: float
    low: float | None
    high: float | None
    n: str
    verdict: str


@dataclass(frozen=True)
class Curve:
    """A figure by epoch, over the seeds of a group: mean, lowest, highest, and how many runs got that far.

    Attributes:
        number: the group's, which gives it colour and marks.
        split: `TRAINING` or `VALIDATION`.
    """

    number: int
    label: str
    short: str
    split: str
    epochs: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    n: Sequence[int]

    @property
    def gid(self) -> str:
        """The name of its marks."""
        return f"{self.split}{self.number}"


def difference_chart(name: str, baseline: str, differences: Sequence[Difference], total: int) -> Chart:
    """Each group's difference from the baseline with its interval, in percentage points.

    Args:
        differences: those to draw, of `total` that there are.
    """
    limits = _limits(differences)
    figure, tips = _draw_differences(differences, limits)
    rows = [
        (legible(d.label), as_points(d.mean), as_interval(d.low, d.high, as_points), d.n, d.verdict)
        for d in differences
    ]
    title = f"Difference from {legible(baseline, 60)}"
    summary = "; ".join(f"{d.label} {as_points(d.mean)} points, {d.verdict}" for d in differences)
    note = (
        "Orange diamonds: the test says better or worse; open circles: no difference shown, too few seeds, or no "
        "test. Lines: 95 % interval, not corrected for the number of comparisons; the verdict is."
    )
    if any(_is_cut(end, limits) for d in differences for end in (d.low, d.high)):
        note += " An arrowhead: the interval is longer than the picture is wide; the table has it in full."
    if len(differences) < total:
        note += f" The {len(differences)} largest of {total} differences."
    header = ("group", "difference, points", "95 % interval", "n", "verdict")
    return chart(figure, name, title, summary, note, header, rows, tips)


def _draw_differences(differences: Sequence[Difference], limits: tuple[float, float]) -> tuple[Figure, Tips]:
    tips = {}
    with drawing():
        figure = Figure(figsize=(SIZE[0] * 1.35, 1.1 + 0.24 * len(differences)))
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, d in enumerate(differences):
            if d.low is not None and d.high is not None:
                axes.plot([100 * d.low, 100 * d.high], [place, place], color=SERIES[0], linewidth=1.6)
        for gid, tested, marker, colour, edge in (
            ("tested", True, "D", SERIES[1], PAPER),
            ("untested", False, "o", PAPER, SERIES[0]),
        ):
            places = [place for place, d in enumerate(differences) if (d.verdict in ("better", "worse")) is tested]
            if places:
                x = [100 * differences[place].mean for place in places]
                axes.scatter(x, places, marker=marker, s=34, color=colour, edgecolor=edge, zorder=3, gid=gid)
                tips[gid] = [_told(differences[place]) for place in places]
        axes.set_yticks(range(len(differences)), apart([d.short for d in differences], 44))
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.set_xlim(limits)
        for place, d in enumerate(differences):
            for end, side, arrow in ((d.low, limits[0], "<"), (d.high, limits[1], ">")):
                if _is_cut(end, limits):
                    axes.plot(side, place, arrow, color=SERIES[0], markersize=4.5, clip_on=False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("difference in test accuracy (percentage points)")
    return figure, tips


def _limits(differences: Sequence[Difference]) -> tuple[float, float]:
    """From where to where the axis runs: zero and every mean and interval, unless an interval is unlike the others."""
    widest = [max(abs(d.low), abs(d.high)) for d in differences if d.low is not None and d.high is not None]
    usual = 1.5 * statistics.median(widest) if widest else 0.0
    reach = max(3 * max(abs(d.mean) for d in differences), usual) or 0.01
    ends = [0.0, *(v for d in differences for v in (d.low, d.mean, d.high) if v is not None)]
    low, high = max(min(ends), -reach), min(max(ends), reach)
    room = 0.05 * (high - low) or 0.01
    return 100 * (low - room), 100 * (high + room)


def _is_cut(end: float | None, limits: tuple[float, float]) -> bool:
    return end is not None and not limits[0] <= 100 * end <= limits[1]


def curve_chart(name: str, metric: str, unit: str, curves: Sequence[Curve], *, factor: float = 1.0) -> Chart:
    """Means by epoch, with a band from the lowest to the highest seed.

    Args:
        metric: such as `"accuracy"`, and its `unit`; values are multiplied by `factor` first.
        curves: of at most as many groups as there are colours in `SERIES`.
    """
    tips = {}
    groups = {curve.number: curve.short for curve in curves}
    splits = sorted({curve.split for curve in curves}, reverse=True)  # validation first, where there is any
    with drawing():
        columns, longest = (2, LABEL) if all(len(short) <= LABEL for short in groups.values()) else (1, 2 * LABEL)
        entries = len(groups) * (len(groups) > 1) + len(splits)
        figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.17 * math.ceil(entries / columns)))
        axes = figure.subplots()
        for curve in curves:
            alpha = 0.18 if len(curves) < 5 else 0.1
            tips[curve.gid] = _draw_curve(axes, curve, unit, factor, alpha if curve.split == splits[0] else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel=f"{metric} ({unit})")
        _add_legend(
            figure, axes, dict(zip(groups, apart(list(groups.values()), longest), strict=True)), splits, columns
        )
    rows = [
        (
            legible(curve.label),
            curve.split,
            str(curve.epochs[-1]),
            _written(factor * curve.mean[-1], unit),
            f"{_written(factor * curve.low[-1], unit)} to {_written(factor * curve.high[-1], unit)}",
            str(curve.n[-1]),
        )
        for curve in curves
    ]
    summary = "After the last epoch: " + "; ".join(f"{row[0]}, {row[1]}: {row[3]} {unit}" for row in rows)
    note = "Lines: mean over the seeds; bands: from the lowest seed to the highest" + (
        f", for {splits[0]} only." if len(splits) > 1 else "."
    )
    header = ("group", "split", "last epoch", f"mean ({unit})", "seeds", "n")
    return chart(figure, name, metric.capitalize(), summary, note, header, rows, tips)


def _add_legend(figure: Figure, axes: Axes, groups: Mapping[int, str], splits: Sequence[str], columns: int) -> None:
    """Colours and marks are of groups, the kind of line is of the split."""
    if len(groups) > 1:
        for number, name in groups.items():
            axes.plot([], [], color=SERIES[number], marker=MARKERS[number], markersize=4, linestyle="none", label=name)
    for split, dashes in zip(splits, (FIRST, SECOND), strict=False):
        axes.plot([], [], color=MUTED, linestyle=dashes, linewidth=LINE, label=split)
    figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.4, handletextpad=0.6, handlelength=3)


def _written(value: float, unit: str) -> str:
    return format_percent(value / 100, sign="") if unit == "%" else f"{value:.4g}"


def _draw_curve(axes: Axes, curve: Curve, unit: str, factor: float, alpha: float | None) -> list[str]:
    """Draw a line, its band and its marks, or without `alpha` a dashed line with hollow marks and no band.

    Returns:
        What the marks say.
    """
    colour, marker = SERIES[curve.number], MARKERS[curve.number]
    mean, low, high = (factor * np.asarray(values) for values in (curve.mean, curve.low, curve.high))
    if alpha is not None:
        axes.fill_between(curve.epochs, low, high, color=colour, alpha=alpha, linewidth=0)
    axes.plot(curve.epochs, mean, color=colour, linestyle=SECOND if alpha is None else FIRST, linewidth=LINE)
    few = np.unique(np.linspace(0, len(mean) - 1, min(MARKS, len(mean))).round().astype(int))
    epochs = np.asarray(curve.epochs)[few]
    inside = PAPER if alpha is None else colour
    axes.scatter(epochs, mean[few], marker=marker, s=16, color=inside, edgecolor=colour, zorder=3, gid=curve.gid)
    return [
        f"{curve.label}\n{curve.split}, epoch {curve.epochs[i]}: {_written(mean[i], unit)} {unit}, "
        f"seeds {_written(low[i], unit)} to {_written(high[i], unit)}, n = {curve.n[i]}"
        for i in few
    ]


def heatmap(
    name: str, title: str, axes_names: tuple[str, str], columns: Sequence[str], rows: Sequence[str],
    means: np.ndarray, counts: np.ndarray,
) -> Chart:  # fmt: skip
    """Mean accuracy for each combination of two settings.

    Args:
        axes_names: what runs to the right, and what runs down.
        means, counts: (rows, columns): accuracy as a share, NaN where there is none, and the number of runs.
    """
    with drawing():
        figure = Figure(figsize=(1.5 + 0.85 * len(columns), 1.3 + 0.55 * len(rows)))
        axes = figure.subplots()
        known = ~np.isnan(means)
        texts = np.vectorize(lambda mean, n: f"{100 * mean:.2f}\nn = {n}" if n else "")(means, counts)
        sns.heatmap(
            100 * means, ax=axes, cmap="cividis", annot=texts, fmt="", linewidths=1, linecolor=PAPER, mask=~known,
            xticklabels=columns, yticklabels=rows, cbar_kws={"label": "test accuracy (%)"}, annot_kws={"size": 8},
        )  # fmt: skip
        axes.collections[0].set_gid("cells")
        readable(axes)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1])
        axes.tick_params(axis="y", rotation=0, length=0)
        axes.tick_params(axis="x", rotation=0, length=0)
        places = [(r, c) for r in range(len(rows)) for c in range(len(columns))]
        cells = [place for place in places if known[place]]
        # Every cell is drawn, the empty ones without a colour.
        tips = [
            f"{axes_names[0]} {columns[c]}, {axes_names[1]} {rows[r]}: "
            + (f"{as_percent(means[r, c])}, n = {counts[r, c]}" if known[r, c] else "no finished run")
            for r, c in places
        ]
        told = [tip for tip, place in zip(tips, places, strict=True) if known[place]]
        table = [(columns[c], rows[r], as_percent(means[r, c]), str(counts[r, c])) for r, c in cells]
        note = "Mean test accuracy in %, and over how many seeds. An empty cell has no finished run."
        header = (*axes_names, "accuracy", "n")
        return chart(figure, name, title, "; ".join(told), note, header, table, {"cells": tips})


def readable(axes: Axes) -> None:
    """Write each cell's text of a seaborn heatmap in black or white, whichever stands out more."""
    mesh = axes.collections[0]
    # One text a cell that is not masked; seaborn's own choice leaves less contrast than 4.5 on middling colours.
    mesh.update_scalarmappable()
    shown_cells = ~np.ma.getmaskarray(np.ma.asarray(mesh.get_array())).ravel()
    colours = np.asarray(mesh.get_facecolor())[shown_cells]
    for text, colour in zip(axes.texts, colours, strict=True):
        text.set_color(ink_on(to_hex(colour)))
        text.set_in_layout(False)  # it lies inside its cell; asking each where it ends takes a third of the time


def _told(difference: Difference) -> str:
    interval = as_interval(difference.low, difference.high, as_points)
    figures = f"{as_points(difference.mean)} points {interval}, n = {difference.n}"
    return f"{difference.label}\n{figures}\n{difference.verdict}"
