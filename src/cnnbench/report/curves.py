"""Lines with bands for several groups in one chart: colours for groups, dashes for what a line shows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnbench.report.svg import LABEL, MARKERS, MUTED, PAPER, SERIES, SIZE, Tips, use_page_style
from cnnbench.runs.class_names import shorten_distinctly

MARKS = 40  # points of a curve that have a tooltip
LINE = 1.4  # points, the width of a curve
FIRST, SECOND = "-", (0, (2, 1.5))  # dashes, of the first part and of the second beside it


@dataclass(frozen=True)
class Curve:
    """A figure over the seeds of a group at each x, (X,) each: mean, ends of the band, and how many runs it had.

    Attributes:
        number: of the group, which gives it colour and marker.
        short: how a chart writes the group.
        part: what the line shows, such as `val` or `train`.
        low, high: the ends of the band; where they equal the mean, there is none.
    """

    number: int
    label: str
    short: str
    part: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray

    @property
    def gid(self) -> str:
        """The name of its marks."""
        return f"{self.part}{self.number}"


def draw_curves(
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
            tips[curve.gid] = [describe(curve, place) for place in marked]
        names = dict(zip(groups, shorten_distinctly(list(groups.values()), longest), strict=True))
        add_legend(figure, axes, names, [parts[part] for part in shown], columns)
    return figure, axes, tips


def add_legend(figure: Figure, axes: Axes, groups: Mapping[int, str], parts: Sequence[str], columns: int) -> None:
    """Colours and markers stand for groups, dashes for the part."""
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
        curve.x[few], curve.mean[few], marker=marker, s=16, color=inside, edgecolor=colour, zorder=3, gid=curve.gid
    )
    return few.tolist()
