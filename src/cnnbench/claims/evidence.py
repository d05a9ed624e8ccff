"""The evidence of a claim as one picture: the values of each group, and each effect against its threshold."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnnbench.claims.records import ContrastRecord, VerdictRecord
from cnnbench.claims.verdict import compute_effects
from cnnbench.claims.wording import MARKS, Wording, scale_value
from cnnbench.report.statistics import estimate
from cnnbench.report.svg import GRID, INK, MUTED, PAPER, SERIES, Tips, use_page_style
from cnnbench.runs.class_names import shorten_distinctly, shorten_text
from cnnbench.runs.figures import save_figure

MOST_ROWS, MOST_SEEDS, MOST_BLOCKS = 24, 100, 8  # that are drawn
LARGEST = 1e15  # the file may come from anywhere, and a picture of larger numbers says nothing
LOGARITHMIC = 25  # from this ratio of the largest to the smallest value on
WIDE, NARROW, EDGE = (4.9, 5.0), 4.2, 0.5  # inches
THIN_ROW, ROW, TALL_ROW = 0.25, 0.44, 0.6
LINE = 54  # characters above the marks of a row
MOST_TALL = 6  # groups whose names have a line of their own
LOOK = {  # marker and colour of a mean, by verdict
    "supported": ("D", SERIES[2], SERIES[2]),
    "refuted": ("X", SERIES[1], SERIES[1]),
    "inconclusive": ("D", PAPER, INK),
}


@dataclass(frozen=True)
class Block:
    """Contrasts of the same measure and unit, which share their axes."""

    contrasts: Sequence[ContrastRecord]

    @property
    def first(self) -> ContrastRecord:
        """The contrast that names measure and unit."""
        return self.contrasts[0]

    def needs_two_lines(self, wording: Wording) -> bool:
        """Whether the name and the figures of an effect do not fit above its marks side by side."""
        texts = (wording.name_sides(one) + wording.format_effect(one) for one in self.contrasts)
        return max(map(len, texts)) > LINE - 3

    def gather_values(self) -> dict[str, dict[int, float]]:
        """The values of each group and set in the unit shown, by seed, as the contrasts name them."""
        values: dict[str, dict[int, float]] = {}
        for contrast in self.contrasts:
            for group, own in contrast.values.items():
                values.setdefault(group, select_finite(contrast, own))
        return dict(list(values.items())[:MOST_ROWS])


def select_finite(contrast: ContrastRecord, values: Mapping[int, float | None]) -> dict[int, float]:
    """The values that can be drawn, in the unit shown, by seed."""
    shown = {seed: scale_value(contrast, value) for seed, value in values.items() if value is not None}
    return {seed: value for seed, value in list(shown.items())[:MOST_SEEDS] if abs(value) < LARGEST}


def gather_effects(contrast: ContrastRecord) -> dict[int, float]:
    """A contrast's effect by seed, in the unit shown."""
    values = {
        group: {seed: value for seed, value in contrast.values.get(group, {}).items() if value is not None}
        for group in contrast.groups
    }
    return select_finite(contrast, compute_effects(contrast, values))


def list_blocks(record: VerdictRecord) -> list[Block]:
    """The contrasts that are drawn, by measure and unit."""
    known: dict[str, list[ContrastRecord]] = {}
    for contrast in record.contrasts:
        key = [contrast.measure, contrast.options, contrast.unit, contrast.compare, contrast.against is None]
        known.setdefault(json.dumps(key, sort_keys=True), []).append(contrast)
    return [Block(several[:MOST_ROWS]) for several in list(known.values())[:MOST_BLOCKS]]


def draw_evidence(record: VerdictRecord, wording: Wording, *, narrow: bool = False) -> tuple[Figure, Tips]:
    """Draw the evidence; `narrow` puts the effects below the values, as a phone needs it."""
    blocks, tips = list_blocks(record), Tips()
    sizes = [_find_heights(block, wording, thin=not narrow) for block in blocks]
    heights = [height for pair in sizes for height in (filter(None, pair) if narrow else [max(pair)])]
    with use_page_style():
        figure = Figure(figsize=(NARROW if narrow else sum(WIDE), sum(heights)))
        figure.set_layout_engine("constrained", w_pad=0.12)  # numbers of neighbouring axes must not touch
        columns = {} if narrow else {"width_ratios": WIDE}
        grid = figure.add_gridspec(len(heights), 1 if narrow else 2, height_ratios=heights, **columns)
        row = 0
        for number, (block, (left, right)) in enumerate(zip(blocks, sizes, strict=True)):
            if left:
                _draw_values(figure.add_subplot(grid[row, 0]), block, wording, f"v{number}", tips, thin=not narrow)
                row += narrow
            place = grid[row, -1] if left else grid[row, :]
            if not narrow and left > right:  # the effects stay as tall as they are, at the top
                place = place.subgridspec(2, 1, height_ratios=(right, left - right))[0]
            _draw_effects(figure.add_subplot(place), block, wording, f"e{number}", tips)
            row += 1
    return figure, tips


def _find_heights(block: Block, wording: Wording, *, thin: bool) -> tuple[float, float]:
    """The heights of a block's values and of its effects, in inches; `thin` as for `_draw_values`."""
    right = (TALL_ROW if block.needs_two_lines(wording) else ROW) * len(block.contrasts) + EDGE
    if block.first.against is None:  # each group is a contrast of its own, so the values are the effects
        return 0.0, right
    groups = len(block.gather_values())
    return (THIN_ROW if thin and groups > MOST_TALL else ROW) * groups + EDGE, right


def save_evidence(path: Path, record: VerdictRecord, wording: Wording) -> None:
    """Write the wide picture with its statement and verdict, for slides."""
    figure, _ = draw_evidence(record, wording)
    figure.set_figheight(figure.get_figheight() + EDGE)  # for the title
    title = f"{record.id}: {wording.choose(record.statement)}"
    verdict = wording.texts["page"]["picture"].format(id=record.id, verdict=wording.name_verdict(record.verdict))
    with use_page_style(), rc_context({"savefig.transparent": False}):
        figure.suptitle(f"{shorten_text(title, 130)}\n{verdict} {MARKS[record.verdict]}", fontsize=9.5)
        save_figure(figure, path)


def _draw_values(axes: Axes, block: Block, wording: Wording, gid: str, tips: Tips, *, thin: bool) -> None:
    """Draw the values of each group; with `thin`, rows of many groups are one line high, with names beside them."""
    values = block.gather_values()
    everything = [value for own in values.values() for value in own.values()]
    is_thin = thin and len(values) > MOST_TALL
    is_counted = all(contrast.is_exact for contrast in block.contrasts)
    if not is_counted:
        _draw_pairs(axes, list(values.values()))
    for place, (group, own) in enumerate(values.items()):
        name = wording.name(group, 60)
        text = "–"
        if own:
            mean = estimate([*own.values()]).mean
            text = wording.format_number(mean)
            _draw_seeds(axes, own, place, f"{gid}{place}", wording, name, tips)
            if is_counted:
                axes.plot(mean, place, "D", color=SERIES[0], markersize=6, zorder=4)
            else:
                axes.plot(
                    [mean] * 2, [place - 0.2, place + 0.2], color=INK, linewidth=2, solid_capstyle="butt", zorder=4
                )
        if is_thin:
            axes.text(1.01, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5)
        else:
            _write_row(axes, place, name, text)
    unit = wording.name_unit(block.first, alone=True)
    _finish_axes(axes, len(values), append_unit(wording.name_measure(block.first), unit), everything, wording)
    if is_thin:
        names = shorten_distinctly([wording.name(group, 60) for group in values], 30)
        axes.set_yticks(range(len(values)), names)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(values) - 0.4, -0.6)


def _draw_effects(axes: Axes, block: Block, wording: Wording, gid: str, tips: Tips) -> None:
    ends: list[float] = []
    in_two_lines = block.needs_two_lines(wording)
    for contrast in block.contrasts:
        found = [contrast.effect, contrast.low, contrast.high, *_list_thresholds(contrast)]
        ends += [scale_value(contrast, one) for one in found if one is not None]
        ends += gather_effects(contrast).values()
    ends = [end for end in ends if abs(end) < LARGEST]
    neutral = None if block.first.against is None else 1.0 if block.first.compare == "ratio" else 0.0
    if neutral is not None:
        ends.append(neutral)
    count = len(block.contrasts)
    unit = wording.name_unit(block.first)
    label = wording.texts["page"]["effect"] if block.first.against else wording.name_measure(block.first)
    _finish_axes(axes, count, append_unit(label, unit), ends, wording)
    for place, contrast in enumerate(block.contrasts):
        if neutral is not None:
            axes.plot([neutral] * 2, [place - 0.24, place + 0.24], color=MUTED, linewidth=0.8, zorder=1)
        _draw_rule(axes, place, contrast)
        _draw_effect(axes, place, contrast, wording, f"{gid}{place}", tips, in_two_lines=in_two_lines)


def _draw_rule(axes: Axes, place: int, contrast: ContrastRecord) -> None:
    """Shade where an effect keeps the rule, with a dashed line at each threshold."""
    left, right = axes.get_xlim()
    ends = [scale_value(contrast, end) for end in _list_thresholds(contrast)]
    shaded = {
        "at_least": [(ends[-1], right)],
        "at_most": [(left, ends[0])],
        "within": [(ends[0], ends[-1])],
        "beyond": [(left, ends[0]), (ends[-1], right)],
    }[contrast.rule]
    for low, high in shaded:
        axes.fill_betweenx(
            [place - 0.24, place + 0.24], max(low, left), min(high, right), color=SERIES[2], alpha=0.16, linewidth=0
        )
    for end in [end for end in ends if left <= end <= right]:
        axes.plot([end] * 2, [place - 0.24, place + 0.24], color=INK, linewidth=1.1, linestyle=(0, (2.4, 1.6)))


def _draw_effect(
    axes: Axes, place: int, contrast: ContrastRecord, wording: Wording, gid: str, tips: Tips, *, in_two_lines: bool
) -> None:
    text = wording.format_effect(contrast)
    name = wording.name_sides(contrast, LINE // len(contrast.groups) - 1 if in_two_lines else LINE)
    effects = gather_effects(contrast)
    if not contrast.is_exact:
        _draw_seeds(axes, effects, place, gid, wording, name, tips)
    low, mean, high = (
        None if one is None or abs(one) > LARGEST else scale_value(contrast, one)
        for one in (contrast.low, contrast.effect, contrast.high)
    )
    if low is not None and high is not None and low < high:
        axes.plot([low, high], [place, place], color=INK, linewidth=1.8, zorder=4, solid_capstyle="butt")
    if mean is not None:
        marker, colour, edge = LOOK[contrast.verdict]
        axes.scatter([mean], [place], marker=marker, s=52, color=colour, edgecolor=edge, zorder=5, gid=f"{gid}m")
        tips[f"{gid}m"] = [f"{name}\n{text} {wording.name_unit(contrast)}\n{wording.name_verdict(contrast.verdict)}"]
    _write_row(axes, place, name, f"{text} {MARKS[contrast.verdict]}", in_two_lines=in_two_lines)


def _draw_seeds(
    axes: Axes, values: Mapping[int, float], place: int, gid: str, wording: Wording, name: str, tips: Tips
) -> None:
    """Draw a dot for each seed, a little apart from each other."""
    if values:
        heights = place + _spread(len(values))
        axes.scatter(
            [*values.values()], heights, s=13, color=SERIES[0], edgecolor=PAPER, linewidth=0.5, zorder=3, gid=gid
        )
        seed = wording.texts["page"]["seed"]
        tips[gid] = [f"{name}\n{seed} {number}: {wording.format_number(value)}" for number, value in values.items()]


def _draw_pairs(axes: Axes, values: Sequence[Mapping[int, float]]) -> None:
    """Join the same seed of neighbouring groups, as they are compared."""
    if len(values) > 3:  # more lines would hide the dots
        return
    for place, (first, second) in enumerate(itertools.pairwise(values)):
        for seed in first.keys() & second.keys():
            ends = [at + _spread(len(own))[list(own).index(seed)] for at, own in ((place, first), (place + 1, second))]
            axes.plot([first[seed], second[seed]], ends, color=GRID, linewidth=0.9, zorder=1)


def _spread(count: int) -> np.ndarray:
    """Offsets that keep the dots of seeds apart."""
    # 2.4 radians, the golden angle, keeps also the dots of neighbouring seeds apart.
    return 0.13 * np.sin(2.4 * np.arange(count)) if count > 1 else np.zeros(count)


def _write_row(axes: Axes, place: int, name: str, text: str, *, in_two_lines: bool = False) -> None:
    """Write name and figure of a row above its marks, so that both may be long."""
    above: dict[str, Any] = {"va": "bottom", "fontsize": 7.5, "zorder": 6}
    transform = axes.get_yaxis_transform()
    longest, height = (LINE, 0.49) if in_two_lines else (max(16, LINE - len(text)), 0.29)
    axes.text(0, place - height, shorten_text(name, longest), transform=transform, ha="left", **above)
    axes.text(1, place - 0.29, text, transform=transform, ha="right", **above)


def _finish_axes(axes: Axes, rows: int, label: str, values: Sequence[float], wording: Wording) -> None:
    axes.set_ylim(rows - 0.62, -0.72)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low > 0 and high / low > LOGARITHMIC:
        axes.set_xscale("log")
        room = (high / low) ** 0.06
        axes.set_xlim(low / room, high * room)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.format_number(value)))


def _list_thresholds(contrast: ContrastRecord) -> list[float]:
    threshold = contrast.threshold
    return [-threshold, threshold] if contrast.rule in ("within", "beyond") else [threshold]


def append_unit(name: str, unit: str) -> str:
    """Such as `test accuracy (%)`; a unit that is the name is not repeated."""
    return f"{name} ({unit})" if unit and unit != name else name
