"""Accuracy against cost: every group with its interval and seeds, and the Pareto front."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from cnnbench.report.formatting import format_interval, format_share, make_legible
from cnnbench.report.groups import shorten_names
from cnnbench.report.study import Study
from cnnbench.report.svg import INK, LABEL, MUTED, PAPER, SERIES, SIZE, Chart, Tips, make_chart, use_page_style
from cnnbench.storage.text import join_some

# Where a name may stand beside its point: offset in points, and alignment.
PLACES = [
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
    """The cost and the accuracy of a group."""

    label: str
    short: str  # how a chart writes the label
    cost: float
    mean: float  # of the accuracy, as a share
    low: float | None  # 95 % interval of the mean
    high: float | None
    seeds: Sequence[float]  # the accuracy of each run
    is_baseline: bool = False


def chart_costs(study: Study) -> tuple[list[Chart], str]:
    """Chart accuracy against parameters and MACs if groups differ in them; with a sentence on what that shows."""
    charts, fronts, equal = [], {}, []
    for key, cost in (("parameters", "parameters"), ("macs", "MACs")):
        points = _list_points(study, key)
        values = {point.cost for point in points}
        if len(values) > 1:
            charts.append(chart_cost(f"accuracy-{key}", cost, points))
            front = [f"{make_legible(one.short, 60)} ({format_share(one.mean)})" for one in find_pareto_front(points)]
            fronts[cost] = join_some(front, 6, "; ")
        elif values:
            equal.append(f"{values.pop():,} {cost}")
    if len(fronts) == 2 and len(set(fronts.values())) == 1:
        fronts = {"parameters and by MACs": fronts["MACs"]}
    notes = [f"By {cost}, the Pareto front is: {front}." for cost, front in fronts.items()]
    if fronts:
        notes.append("The front is one of means: only the comparison of two groups says whether they differ.")
    if equal:
        whose = "The only group has" if len(study.measured) == 1 else "All groups have"
        notes.append(f"{whose} {' and '.join(equal)}, so there is no cost to weigh accuracy against.")
    return charts, " ".join(notes)


def _list_points(study: Study, cost: str) -> list[Point]:
    short, points = shorten_names(study.groups, study.axes), []
    for group in study.measured:
        found, value = group.estimate_of("accuracy"), group.costs[cost]
        if found is not None and value is not None:
            accuracy = (found.mean, *found.compute_bounds(), list(group.accuracy.values()))
            points.append(Point(group.label, short[group.label], value, *accuracy, group.label == study.baseline))
    return points


def find_pareto_front(points: Sequence[Point]) -> list[Point]:
    """The groups for which no other is at least as accurate at no higher cost, and better in one; cheapest first."""
    front: list[Point] = []
    # From cheap to expensive, the front is where the mean rises above all before it; equal points share their place.
    for point in sorted(points, key=lambda point: (point.cost, -point.mean)):
        is_equal = front and (point.cost, point.mean) == (front[-1].cost, front[-1].mean)
        if not front or is_equal or point.mean > front[-1].mean:
            front.append(point)
    return front


def chart_cost(name: str, cost: str, points: Sequence[Point]) -> Chart:
    """Chart accuracy against a cost, such as `"parameters"`, with intervals, every seed and the Pareto front."""
    front = find_pareto_front(points)
    note = (
        f"Orange diamonds and the dotted line: the Pareto front, the groups that no other matches with as few {cost}. "
        "Bars: 95 % interval of the mean; small dots: each seed; the ring: the baseline."
    )
    if any(find_cut_ends(point, find_limits(points)) for point in points):
        note += " An arrowhead: the interval is longer than the picture is high; the table has it in full."
    rows = [
        (
            point.label,
            f"{point.cost:,.0f}",
            format_share(point.mean),
            format_interval(point.low, point.high),
            str(len(point.seeds)),
            "yes" if point in front else "",
        )
        for point in sorted(points, key=lambda point: point.cost)
    ]
    header = ("group", cost, "accuracy", "95 % interval", "n", "Pareto front")
    figure, tips = _draw(cost, points, front)
    return make_chart(figure, name, f"Accuracy against {cost}", note, header, rows, tips)


def _draw(cost: str, points: Sequence[Point], front: Sequence[Point]) -> tuple[Figure, Tips]:
    others = [point for point in points if point not in front]
    baseline = [point for point in points if point.is_baseline]
    limits = find_limits(points)
    tips = {}
    with use_page_style():
        figure = Figure(figsize=SIZE)
        axes = figure.subplots()
        for point in points:
            axes.plot([point.cost] * len(point.seeds), _to_percent(point.seeds), ".", color=MUTED, alpha=0.6, ms=3.5)
        axes.step(*_split_coordinates(front), where="post", color=SERIES[1], linewidth=1.0, linestyle=":")
        for gid, some, marker, colour in (("others", others, "o", SERIES[0]), ("front", front, "D", SERIES[1])):
            for point in some:
                _draw_interval(axes, point, colour, limits)
            axes.scatter(
                *_split_coordinates(some), marker=marker, s=30, color=colour, edgecolor=PAPER, zorder=3, gid=gid
            )
            if some:
                tips[gid] = [
                    f"{point.label}\n{point.cost:,.0f} {cost}\naccuracy {format_share(point.mean)} "
                    f"{format_interval(point.low, point.high)}, n = {len(point.seeds)}"
                    for point in some
                ]
        axes.scatter(
            *_split_coordinates(baseline), marker="o", s=95, facecolor="none", edgecolor=INK, linewidth=0.9, zorder=2
        )
        _scale_costs(axes, [point.cost for point in points])
        axes.set(xlabel=cost, ylabel="test accuracy (%)", ylim=limits)
        # The most important names come first, because a name that finds no room is left out.
        rest = sorted(others, key=lambda point: not point.is_baseline)
        _write_names(figure, axes, [*front, *rest[: max(MOST_NAMED - len(front), len(baseline))]], points, front)
    return figure, tips


def _draw_interval(axes: Axes, point: Point, colour: str, limits: tuple[float, float]) -> None:
    if point.low is not None and point.high is not None:
        axes.plot([point.cost] * 2, _to_percent([point.low, point.high]), color=colour, linewidth=1.1)
        for end, arrow in find_cut_ends(point, limits):
            axes.plot(point.cost, end, arrow, color=colour, markersize=4.5, clip_on=False)


def find_cut_ends(point: Point, limits: tuple[float, float]) -> list[tuple[float, str]]:
    """The limits that cut the point's interval, each with the arrowhead that marks the cut."""
    if point.low is None or point.high is None:
        return []
    beyond = ((limits[0], "v", 100 * point.low < limits[0]), (limits[1], "^", 100 * point.high > limits[1]))
    return [(end, arrow) for end, arrow, is_cut in beyond if is_cut]


def _scale_costs(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0:
        axes.set_xscale("log")
        # Margins on a logarithmic axis: wide enough for a marker where all costs are alike, growing with their range.
        spread = max(costs) / min(costs)
        axes.set_xlim(min(costs) / (1.15 * spread**0.08), max(costs) * (1.15 * spread**0.08))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if spread < 300 else (1,), numticks=9))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
    axes.xaxis.set_major_formatter(EngFormatter())


def find_limits(points: Sequence[Point]) -> tuple[float, float]:
    """The range of the accuracy axis in percent: every seed, and of the intervals what leaves room for those."""
    values = _to_percent([value for point in points for value in (*point.seeds, point.mean)])
    ends = _to_percent([end for point in points for end in (point.low, point.high) if end is not None])
    # The interval of two seeds is twelve times their distance, and would press all points into a line.
    reach = max(0.5, max(values) - min(values))
    low = max(min(values) - reach, min([*values, *ends]))
    high = min(max(values) + reach, max([*values, *ends]))
    room = 0.06 * (high - low) or 0.15
    return max(0.0, low - room), high + room


def _write_names(
    figure: Figure, axes: Axes, named: Sequence[Point], points: Sequence[Point], front: Sequence[Point]
) -> None:
    """Write names where they cover no point, name or line; the others are only in tooltips."""
    figure.draw_without_rendering()  # fixes the layout, on which the extents below depend
    frame = axes.get_window_extent()
    marks = axes.transData.transform([(point.cost, 100 * point.mean) for point in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in marks]
    # The front's line runs to the right of a point, then up to the next.
    corners = axes.transData.transform([(point.cost, 100 * point.mean) for point in front])
    for (x0, y0), (x1, y1) in pairwise(corners):
        taken += [Bbox([[x0, y0 - 1], [x1, y0 + 1]]), Bbox([[x1 - 1, y0], [x1 + 1, y1]])]
    for point in named:
        name = wrap_name(make_legible(point.short, 3 * LABEL))
        for dx, dy, across, up in PLACES:
            text = axes.annotate(
                name, (point.cost, 100 * point.mean), (dx, dy), textcoords="offset points",
                ha=across, va=up, fontsize=7.5,
            )  # fmt: skip
            box = text.get_window_extent()
            is_inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                text.set_in_layout(False)
                taken.append(box)
                break
            text.remove()


def wrap_name(name: str) -> str:
    """Break `mlp, width 1, depth 1, epochs 2` into lines of at most `LABEL` characters, after a setting if possible."""
    # textwrap breaks at ordinary blanks only, so a setting and its value stay together if they fit into a line.
    bound = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in name.split(", "))
    return "\n".join(textwrap.wrap(bound, LABEL, break_on_hyphens=False)).replace("\N{NO-BREAK SPACE}", " ")


def _split_coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], _to_percent([point.mean for point in points])


def _to_percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]
