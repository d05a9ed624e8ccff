"""Accuracy against what it costs: every group with its interval and its seeds, and the Pareto front."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from cnnbench.report.svg import (  # fmt: skip
    INK,
    LABEL,
    MUTED,
    PAPER,
    SERIES,
    SIZE,
    Chart,
    Tips,
    as_interval,
    as_percent,
    chart,
    drawing,
    legible,
)

# Where a name may stand: points to the right and up, and how it is aligned there.
BESIDE = [
    (-6, 5, "right", "bottom"),
    (7, 5, "left", "bottom"),
    (7, -5, "left", "top"),
    (-7, -5, "right", "top"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
]


MOST_NAMED = 12


@dataclass(frozen=True)
class Point:
    """What a group costs and reaches.

    Attributes:
        label: the group's name; `short`, how a chart writes it.
        mean, low, high: accuracy as a share, and the 95 % interval of its mean, None where there is none.
        seeds: the accuracy of each run.
    """

    label: str
    short: str
    cost: float
    mean: float
    low: float | None
    high: float | None
    seeds: Sequence[float]
    baseline: bool


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The groups for which no other is at least as accurate at no higher cost, and better in one; cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.mean)):
        equal = front and (point.cost, point.mean) == (front[-1].cost, front[-1].mean)
        if not front or equal or point.mean > front[-1].mean:
            front.append(point)
    return front


def cost_chart(name: str, cost: str, points: Sequence[Point]) -> Chart:
    """Accuracy against parameters or MACs, with intervals, every seed, and the Pareto front.

    Args:
        cost: what the horizontal axis counts, such as `"parameters"`.
    """
    front = pareto_front(points)
    figure, tips = _draw(cost, points, front)
    words = "; ".join(f"{point.label}: {point.cost:,.0f} {cost}, {as_percent(point.mean)}" for point in front)
    note = (
        f"Orange diamonds and the dotted line: the Pareto front, the groups that no other matches with as few {cost}. "
        "Bars: 95 % interval of the mean; small dots: each seed; the ring: the baseline."
    )
    if any(_ends_cut(point, _accuracy_limits(points)) for point in points):
        note += " An arrowhead: the interval is longer than the picture is high; the table has it in full."
    rows = [
        (
            legible(point.label),
            f"{point.cost:,.0f}",
            as_percent(point.mean),
            as_interval(point.low, point.high),
            str(len(point.seeds)),
            "yes" if point in front else "",
        )
        for point in sorted(points, key=lambda point: point.cost)
    ]
    header = ("group", cost, "accuracy", "95 % interval", "n", "Pareto front")
    title, summary = f"Accuracy against {cost}", f"Pareto front, cheapest first: {words}."
    return chart(figure, name, title, summary, note, header, rows, tips)


def _draw(cost: str, points: Sequence[Point], front: Sequence[Point]) -> tuple[Figure, Tips]:
    others = [point for point in points if point not in front]
    baseline = [point for point in points if point.baseline]
    limits = _accuracy_limits(points)
    tips = {}
    with drawing():
        figure = Figure(figsize=SIZE)
        axes = figure.subplots()
        for point in points:
            axes.plot([point.cost] * len(point.seeds), _percent(point.seeds), ".", color=MUTED, alpha=0.6, ms=3.5)
        axes.step(*_places(front), where="post", color=SERIES[1], linewidth=1.0, linestyle=":")
        for gid, some, marker, colour in (("others", others, "o", SERIES[0]), ("front", front, "D", SERIES[1])):
            _intervals(axes, some, colour, limits)
            axes.scatter(*_places(some), marker=marker, s=30, color=colour, edgecolor=PAPER, zorder=3, gid=gid)
            if some:
                tips[gid] = [_told(point, cost) for point in some]
        axes.scatter(*_places(baseline), marker="o", s=95, facecolor="none", edgecolor=INK, linewidth=0.9, zorder=2)
        _cost_axis(axes, [point.cost for point in points])
        axes.set(xlabel=cost, ylabel="test accuracy (%)", ylim=limits)
        # Names that matter most come first, for one that finds no room is left out.
        rest = sorted((point for point in points if point not in front), key=lambda point: not point.baseline)
        _label_points(figure, axes, [*front, *rest[: max(MOST_NAMED - len(front), len(baseline))]], points, front)
    return figure, tips


def _told(point: Point, cost: str) -> str:
    interval = as_interval(point.low, point.high)
    reached = f"accuracy {as_percent(point.mean)} {interval}, n = {len(point.seeds)}"
    return f"{point.label}\n{point.cost:,.0f} {cost}\n{reached}"


def _intervals(axes: Axes, points: Sequence[Point], colour: str, limits: tuple[float, float]) -> None:
    for point in points:
        if point.low is not None and point.high is not None:
            axes.plot([point.cost] * 2, _percent([point.low, point.high]), color=colour, linewidth=1.1)
            for end, arrow in _ends_cut(point, limits):
                axes.plot(point.cost, end, arrow, color=colour, markersize=4.5, clip_on=False)


def _ends_cut(point: Point, limits: tuple[float, float]) -> list[tuple[float, str]]:
    """At which ends of the picture the point's interval goes on beyond it, and the arrowhead that says so."""
    if point.low is None or point.high is None:
        return []
    beyond = ((limits[0], "v", 100 * point.low < limits[0]), (limits[1], "^", 100 * point.high > limits[1]))
    return [(end, arrow) for end, arrow, cut in beyond if cut]


def _cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0:
        axes.set_xscale("log")
        spread = max(costs) / min(costs)
        axes.set_xlim(min(costs) / (1.15 * spread**0.08), max(costs) * (1.15 * spread**0.08))
        subs = (1, 2, 5) if spread < 300 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))


def _accuracy_limits(points: Sequence[Point]) -> tuple[float, float]:
    """From where to where the axis runs, in percent: every seed, and of intervals what leaves room for those."""
    values = _percent([value for point in points for value in (*point.seeds, point.mean)])
    ends = _percent([end for point in points for end in (point.low, point.high) if end is not None])
    reach = max(0.5, max(values) - min(values))
    low = max(min(values) - reach, min([*values, *ends]))
    high = min(max(values) + reach, max([*values, *ends]))
    room = 0.06 * (high - low) or 0.15
    return max(0.0, low - room), high + room


def _line_boxes(axes: Axes, front: Sequence[Point]) -> list[Bbox]:
    """Where the front's line runs, in pixels: to the right of a point, then up to the next."""
    places = axes.transData.transform([(point.cost, 100 * point.mean) for point in front])
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(places):
        boxes += [Bbox([[x0, y0 - 1], [x1, y0 + 1]]), Bbox([[x1 - 1, y0], [x1 + 1, y1]])]
    return boxes


def _label_points(
    figure: Figure, axes: Axes, labelled: Sequence[Point], points: Sequence[Point], front: Sequence[Point]
) -> None:
    """Write names where they hide no point, name or line; the other points have their hover value."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    marks = axes.transData.transform([(point.cost, 100 * point.mean) for point in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in marks] + _line_boxes(axes, front)
    for point in labelled:
        name = in_lines(legible(point.short, 3 * LABEL))
        for dx, dy, across, up in BESIDE:
            text = axes.annotate(
                name, (point.cost, 100 * point.mean), (dx, dy), textcoords="offset points",
                ha=across, va=up, fontsize=7.5,
            )  # fmt: skip
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                text.set_in_layout(False)
                taken.append(box)
                break
            text.remove()


def in_lines(name: str) -> str:
    """`mlp, width 1, depth 1, epochs 2` in lines of at most `LABEL` characters, ended after a setting if possible."""
    bound = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in name.split(", "))
    lines = textwrap.wrap(bound, LABEL, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], _percent([point.mean for point in points])


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _thousands(value: float) -> str:
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g} {letter}"
    return f"{value:g}"
