"""Charts that are matrices: confusion, the difference of two confusions, and accuracy by width and depth.

A cell is coloured from the page's paper (nothing) to a full colour (all), so that a matrix is as light or as dark as
the page.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure

from cnnbench.report.formatting import format_change, format_share, make_legible
from cnnbench.report.groups import Group, format_setting, shorten_key
from cnnbench.report.study import Study
from cnnbench.report.svg import CELL, GRID, INK, PAPER, Chart, make_chart, use_page_style
from cnnbench.runs.class_names import count_cells, shorten_distinctly
from cnnbench.storage.plain_data import is_number
from cnnbench.storage.text import format_percent

# Full colours of cells on light and on dark paper, as in the stylesheet.
PAPERS = "#ffffff", "#14171b"
CELLS = ("#08519c", "#9fd3f5"), ("#54278f", "#cdbff2"), ("#8c3b00", "#ffbf8a")
LEVELS = 256
# The colour of a number in a cell, by whether it is black on light and on dark paper. Matplotlib omits pure black.
INKS = {(True, True): "#010101", (False, False): "#ffffff", (True, False): "#0a0b0c", (False, True): "#f8f9fa"}
SHOWN_CLASSES = 20  # of a confusion matrix: the number of cells grows with the square
NUMBERED_CLASSES = 12  # with more classes, a cell is too small for its number
NAME = 14  # characters of a class name in a chart
LISTED = 15  # values in the table below a matrix
WIDTH, DEPTH = "model.width", "model.depth"
MOST_HEATMAPS, MOST_STEPS = 6, 12


def make_colours(kinds: Sequence[int]) -> ListedColormap:
    """Placeholder colours of one kind of cell, from none to full, or of two, from one to the other through none."""
    steps = [[f"#5e{level:02x}0{kind}" for level in range(LEVELS)] for kind in kinds]
    return ListedColormap(steps[0] if len(steps) == 1 else steps[0][::-1] + steps[1])


def choose_ink(colour: str) -> str:
    """Choose the placeholder colour of a number in a cell: black or white, whichever has more contrast."""
    cell = CELL.fullmatch(f"fill:{colour}")
    if cell is None:
        return INKS[(_prefers_black(to_rgb(colour)),) * 2]
    # The colour is mixed by the browser, from the paper and the full colour: do the same for either paper.
    share = int(cell[1], 16) / (LEVELS - 1)
    on_light, on_dark = (
        _prefers_black([(1 - share) * a + share * b for a, b in zip(to_rgb(paper), to_rgb(full), strict=True)])
        for paper, full in zip(PAPERS, CELLS[int(cell[2])], strict=True)
    )
    return INKS[on_light, on_dark]


def _prefers_black(rgb: Sequence[float]) -> bool:
    """Whether black has more contrast than white on a colour, as WCAG computes it."""
    # The relative luminance of an sRGB colour; at 0.179 black and white have the same contrast.
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179


def draw_matrix(
    axes: Axes,
    values: np.ndarray,
    texts: np.ndarray | None,
    columns: Sequence[str],
    rows: Sequence[str],
    **options: Any,
) -> None:
    """Draw a heatmap whose cells have the gid `cells`, with texts in black or white, whichever has more contrast."""
    annotation = False if texts is None else texts
    sns.heatmap(values, ax=axes, annot=annotation, fmt="", xticklabels=columns, yticklabels=rows, **options)
    mesh = axes.collections[0]
    # Clipping would hide the outer half of the lines around the border cells.
    mesh.set(gid="cells", clip_on=False)
    # One text per cell that is not masked; seaborn's own choice of ink has less contrast than 4.5 on middling colours.
    mesh.update_scalarmappable()
    is_shown = ~np.ma.getmaskarray(np.ma.asarray(mesh.get_array())).ravel()
    for text, colour in zip(list(axes.texts), np.asarray(mesh.get_facecolor())[is_shown], strict=bool(axes.texts)):
        text.set_color(choose_ink(to_hex(colour)))
        text.set_in_layout(False)  # texts lie inside their cells, and measuring each takes a third of the time
        if not text.get_text():
            text.remove()
    axes.tick_params(axis="x", rotation=0 if max(map(count_cells, columns)) < 4 else 90, length=0)
    axes.tick_params(axis="y", rotation=0, length=0)


def choose_classes(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """Choose the classes to show: if there are too many, those with the most mistakes, in their own order."""
    wrong = sum(matrix - np.diag(np.diag(matrix)) for matrix in confusions)
    counts = wrong.sum(0) + wrong.sum(1)
    return np.sort(np.argsort(-counts, kind="stable")[:SHOWN_CLASSES])


def chart_confusion(name: str, title: str, confusion: np.ndarray, classes: Sequence[str], chosen: np.ndarray) -> Chart:
    """Chart each row's shares in percent.

    Args:
        confusion: (K, K) counts, rows true, columns predicted, summed over the runs of a group.
        chosen: the classes to show.
    """
    shares, counts = (part[np.ix_(chosen, chosen)] for part in (_compute_row_shares(confusion), confusion))
    names = [classes[k] for k in chosen]
    mistakes = np.where(np.eye(len(names), dtype=bool), 0, counts)
    total, right = int(confusion.sum()), int(np.trace(confusion))
    note = f"In % of the true class; {right:,} of {total:,} correct. The table lists the most frequent mistakes."
    return make_chart(
        _draw_classes(shares, names, (0,), 1.0, _write_share),
        name, title, note + _describe_choice(chosen, classes),
        ("true", "predicted", "images", "of the true class"),
        [
            (names[i], names[j], f"{counts[i, j]:,}", format_share(shares[i, j], 1))
            for i, j in _find_largest(mistakes)
        ],
        {"cells": [
            f"true {names[i]}, predicted {names[j]}: {counts[i, j]:,} ({format_share(shares[i, j], 1)})"
            for i, j in np.ndindex(counts.shape)
        ]},
    )  # fmt: skip


def chart_confusion_difference(
    name: str, labels: tuple[str, str], confusions: Sequence[np.ndarray], classes: Sequence[str], chosen: np.ndarray
) -> Chart:
    """Chart how the second group's shares differ from the first's, in percentage points."""
    first, second = (_compute_row_shares(confusion)[np.ix_(chosen, chosen)] for confusion in confusions)
    points, names = 100 * (second - first), [classes[k] for k in chosen]
    reach = max(float(np.abs(points).max()), 0.1)
    note = (
        f"{make_legible(labels[1], 60)} minus {make_legible(labels[0], 60)}, in percentage points of the true class. "
        "Purple on the diagonal and orange beside it are in favour of the former."
    )
    return make_chart(
        _draw_classes(points, names, (2, 1), reach, lambda v: format_change(v, 1) if abs(v) >= 0.05 else ""),
        name, "Their difference", note + _describe_choice(chosen, classes),
        ("true", "predicted", "points"),
        [(names[i], names[j], format_change(points[i, j], 1)) for i, j in _find_largest(np.abs(points))],
        {"cells": [
            f"true {names[i]}, predicted {names[j]}: {format_change(points[i, j], 1)} points"
            for i, j in np.ndindex(points.shape)
        ]},
    )  # fmt: skip


def _write_share(share: float) -> str:
    return format_percent(share, 0, sign="") if share >= 0.005 else ""


def _compute_row_shares(confusion: np.ndarray) -> np.ndarray:
    """Each count as a share of its row, the true class; zeros for a class without images."""
    return confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


def _find_largest(values: np.ndarray) -> list[tuple[int, int]]:
    """Row and column of the largest values above 0."""
    places = np.argsort(-values, axis=None, kind="stable")[:LISTED]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(places, values.shape), strict=True) if values[i, j] > 0]


def _describe_choice(chosen: np.ndarray, classes: Sequence[str]) -> str:
    if len(chosen) == len(classes):
        return ""
    return f" Shown are the {len(chosen)} of {len(classes)} classes with the most mistakes."


def _draw_classes(
    values: np.ndarray, names: Sequence[str], colours: Sequence[int], reach: float, write: Callable[[float], str]
) -> Figure:
    """Draw a square matrix of classes.

    Args:
        colours: one for values from 0 to `reach`, or two for values from −`reach`.
        write: makes the text of a cell; small values have none, so that the others are seen.
    """
    with use_page_style():
        side = 1.2 + 0.3 * max(6, len(names))
        figure = Figure(figsize=(side, side))
        axes = figure.subplots()
        short = shorten_distinctly(names, NAME)
        texts = np.array([[write(value) for value in row] for row in values])
        draw_matrix(
            axes, values, texts if len(names) <= NUMBERED_CLASSES else None, short, short,
            cmap=make_colours(colours), vmin=0.0 if len(colours) == 1 else -reach, vmax=reach,
            square=True, cbar=False, linewidths=0.5, linecolor=GRID, annot_kws={"size": 6.5},
        )  # fmt: skip
        axes.set_xlabel("predicted class", color=INK)
        axes.set_ylabel("true class", color=INK)
    return figure


def chart_width_and_depth(study: Study) -> list[Chart]:
    """Chart accuracy by width and depth for each combination of the other axes; none without these two axes."""
    if not {WIDTH, DEPTH} <= set(study.axes):
        return []
    others = [key for key in study.axes if key not in (WIDTH, DEPTH)]
    panels: dict[str, list[Group]] = defaultdict(list)
    for group in study.measured:
        if all(is_number(group.settings.get(key)) for key in (WIDTH, DEPTH)):
            panels[" ".join(f"{shorten_key(key)}={format_setting(group.settings.get(key))}" for key in others)].append(
                group
            )
    charts: list[Chart] = []
    for title, groups in panels.items():
        by_size = {(group.settings[DEPTH], group.settings[WIDTH]): group for group in groups}
        depths, widths = (sorted(set(steps)) for steps in zip(*by_size, strict=True))
        if len(widths) * len(depths) >= 2 and max(len(widths), len(depths)) <= MOST_STEPS:
            heading = f"Accuracy by width and depth{f', {make_legible(title, 80)}' if title else ''}"
            charts.append(_chart_sizes(f"heatmap-{len(charts) + 1}", heading, by_size, depths, widths))
    return charts[:MOST_HEATMAPS]


def _chart_sizes(
    name: str, title: str, by_size: dict[tuple[Any, Any], Group], depths: Sequence[Any], widths: Sequence[Any]
) -> Chart:
    means = np.full((len(depths), len(widths)), np.nan)
    texts = np.full(means.shape, "", dtype=object)
    rows, tips = [], []
    for row, column in np.ndindex(means.shape):
        depth, width = format_setting(depths[row]), format_setting(widths[column])
        tip = "no finished run"  # empty cells are drawn too, without a colour, and have a tooltip
        if group := by_size.get((depths[row], widths[column])):
            mean, n = group.mean_accuracy, len(group.accuracy)
            means[row, column], texts[row, column] = mean, f"{100 * mean:.2f}\nn = {n}"
            rows.append((width, depth, format_share(mean), str(n)))
            tip = f"{format_share(mean)}, n = {n}"
        tips.append(f"width {width}, depth {depth}: {tip}")
    with use_page_style():
        figure = Figure(figsize=(1.5 + 0.85 * len(widths), 1.3 + 0.55 * len(depths)))
        axes = figure.subplots()
        draw_matrix(
            axes, 100 * means, texts, [*map(format_setting, widths)], [*map(format_setting, depths)],
            mask=np.isnan(means), cmap="cividis", linewidths=1, linecolor=PAPER,
            cbar_kws={"label": "test accuracy (%)"}, annot_kws={"size": 8},
        )  # fmt: skip
        axes.set(xlabel="width", ylabel="depth")
        note = "Mean test accuracy in %, and the number of seeds. An empty cell has no finished run."
        return make_chart(figure, name, title, note, ("width", "depth", "accuracy", "n"), rows, {"cells": tips})
