"""The pictures of `cnnbench explain`.

Most figures are one set of axes, measured in inches from the top left, as in `drawing.make_grid`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cnnbench.runs.class_names import count_cells, fit_names, shorten_text
from cnnbench.runs.drawing import Box, draw_channels, draw_input, draw_pixels, make_grid, set_limits, to_bytes
from cnnbench.runs.explanation import Activation, Embedding, Filters, SeenPart, ShownImage
from cnnbench.runs.figures import TRAIN, VALIDATION
from cnnbench.runs.heat_map_figures import FOR
from cnnbench.runs.robustness import Robustness

# Text has matplotlib's current colour, so that a page can choose its own.
COLOURED = 10  # classes with a colour of their own
LABELS = 1.75  # inches of the names on the left


def plot_filters(filters: Filters) -> Figure:
    """The weights of each filter: blue below 0, red above; those of three channels as colours."""
    weights, columns, cell = filters.weights, 8, 0.95
    rows = -(-len(weights) // columns)
    figure, axes = make_grid(columns * cell, rows * cell, "", top=0.05)
    limit = float(np.abs(weights).max()) or 1.0
    for place, one in enumerate(weights):
        box = (place % columns * cell + 0.05, place // columns * cell + 0.05, cell - 0.1, cell - 0.1)
        if one.ndim == 2:
            draw_channels(axes, one / limit, box, markers=True)
        elif len(one) == 3:
            draw_pixels(axes, to_bytes((one / (np.abs(one).max() or 1.0) + 1) / 2).transpose(1, 2, 0), box)
        else:
            draw_pixels(axes, colormaps["RdBu_r"]((one.mean(0) / limit + 1) / 2, bytes=True), box)
    set_limits(axes, columns * cell, rows * cell)
    return figure


def plot_activations(shown: ShownImage) -> Figure:
    """The image, and a row for each block: its maps or units, dark where they are small."""
    cell, width = 0.9, LABELS + 8 * 0.9
    height = cell * (1 + len(shown.activations))
    figure, axes = make_grid(width, height, "", top=0.05)
    draw_input(axes, shown.pixels, (LABELS + 0.04, 0.04, cell - 0.08, cell - 0.08))
    for row, one in enumerate(shown.activations, 1):
        top, shape = row * cell, " × ".join(map(str, one.shape))
        axes.text(0.05, top + 0.38, _shorten_block(one.block, 24), ha="left", va="center", fontsize=8.5)
        axes.text(0.05, top + 0.56, shape, ha="left", va="center", fontsize=7.5, alpha=0.75)
        _draw_activation(axes, one, (LABELS, top, width - LABELS, cell))
    set_limits(axes, width, height)
    return figure


def _draw_activation(axes: Axes, one: Activation, box: Box) -> None:
    left, top, width, height = box
    values = one.values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0)
    if values.ndim == 1:  # units, in as many rows as make their cells largest
        rows = max(range(1, 9), key=lambda n: min(width / -(-len(values) // n), (height - 0.1) / n))
        columns = -(-len(values) // rows)
        cell = min(0.4, width / columns, (height - 0.1) / rows)
        cells = np.zeros((rows * columns, 4), np.uint8)  # those without a unit stay clear
        cells[: len(values)] = colormaps["viridis"](scaled, bytes=True)
        inner = (left, top + (height - rows * cell) / 2, columns * cell, rows * cell)
        draw_pixels(axes, cells.reshape(rows, columns, 4), inner)
        return
    for place, part in enumerate(scaled):
        inner = (left + place * height + 0.04, top + 0.04, height - 0.08, height - 0.08)
        if part.ndim == 1:
            draw_channels(axes, 2 * part[None] - 1, inner)
        else:
            draw_pixels(axes, colormaps["viridis"](part, bytes=True), inner)


def plot_seen(seen: Sequence[SeenPart], pixels: np.ndarray) -> Figure:
    """The image for each block, bright where the block's middle output sees it."""
    columns, cell, caption = min(4, len(seen)), 1.9, 0.42
    rows = -(-len(seen) // columns)
    width, height = columns * cell, rows * (cell + caption)
    figure, axes = make_grid(width, height, "", top=0.05)
    sizes = pixels.shape[1:]
    for place, part in enumerate(seen):
        left, top = place % columns * cell, place // columns * (cell + caption)
        box = (left + 0.08, top + 0.08, cell - 0.16, cell - 0.16)
        # An output near padding sees less of the image than its field.
        spans = [
            (max(0.0, start), min(float(size), end + 1)) for (start, end), size in zip(part.spans, sizes, strict=True)
        ]
        _draw_seen(axes, pixels, spans, box)
        text = f"{_shorten_block(part.block, 26)}\n{' × '.join(map(str, part.size))}"
        axes.text(left + cell / 2, top + cell - 0.04, text, ha="center", va="top", fontsize=8.5)
    set_limits(axes, width, height)
    return figure


def _draw_seen(axes: Axes, pixels: np.ndarray, spans: Sequence[tuple[float, float]], box: Box) -> None:
    left, top, width, height = box
    if pixels.ndim == 2:
        ((start, end),), length = spans, pixels.shape[1]
        part = (left + width * start / length, top, width * (end - start) / length, height)
        axes.add_patch(Rectangle(part[:2], *part[2:], facecolor=FOR, alpha=0.25, edgecolor=FOR))
        draw_input(axes, pixels, box)
        return
    rows, columns = (slice(int(start), int(np.ceil(end))) for start, end in spans)
    faint = (64 + 0.3 * pixels.astype(np.float64)).astype(np.uint8)
    faint[:, rows, columns] = pixels[:, rows, columns]
    left, top, width, height = draw_input(axes, faint, box)
    (first, last), (near, far) = spans
    down, across = height / pixels.shape[1], width / pixels.shape[2]
    corner = (left + near * across, top + first * down)
    axes.add_patch(
        Rectangle(
            corner, (far - near) * across, (last - first) * down, fill=False, edgecolor=FOR, linewidth=2, zorder=3
        )
    )


def plot_embedding(embedding: Embedding, class_names: Sequence[str], words: Mapping[str, str], paper: str) -> Figure:
    """The images on each plane, coloured by class, wrong answers with a ring.

    Args:
        words: `wrong`, `other`, and the name of each method.
        paper: the colour behind the names of classes.
    """
    planes, names = embedding.planes, fit_names(class_names)
    figure = Figure(figsize=(4.6 * len(planes), 4.9), layout="constrained")
    counts = np.bincount(embedding.labels, minlength=len(class_names))
    common = np.argsort(-counts, kind="stable")[:COLOURED]
    common = np.sort(common[counts[common] > 0])
    colours, ink = colormaps["tab10"](range(COLOURED)), rcParams["text.color"]
    for axes, (method, places) in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes.items(), strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_title(words[method], loc="left")
        others = ~np.isin(embedding.labels, common)
        if others.any():
            axes.scatter(*places[others].T, s=12, color="#999999", linewidths=0, label=words["other"])
        for number, label in enumerate(common):
            axes.scatter(*places[embedding.labels == label].T, s=16, color=[colours[number]], linewidths=0)
        axes.scatter(
            *places[embedding.is_wrong].T, s=70, facecolors="none", edgecolors=ink, linewidths=1.1, label=words["wrong"]
        )
        centres = np.array([np.median(places[embedding.labels == label], axis=0) for label in common])
        inches = np.array([4.3, 4.2]) / (np.ptp(places, axis=0) + 1e-9)  # about, of a unit of the plane
        sizes = np.array([(0.18 + 0.09 * count_cells(names.shown[label]), 0.28) for label in common])
        centres = separate_boxes(centres * inches, sizes) / inches
        for number, (label, (x, y)) in enumerate(zip(common, centres, strict=True)):
            axes.text(
                x, y, names.shown[label], ha="center", va="center", fontsize=9, fontfamily=names.fonts, zorder=4,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": paper, "edgecolor": colours[number], "linewidth": 1.5},
            )  # fmt: skip
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    return figure


def separate_boxes(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The centres (N, 2) of boxes, moved so that none covers another; sizes (N, 2) are in the same unit."""
    centres = centres.copy()
    for _ in range(200):  # moving two apart may push one onto a third
        moved = False
        for first, second in combinations(range(len(centres)), 2):
            apart = centres[second] - centres[first]
            overlap = (sizes[first] + sizes[second]) / 2 - np.abs(apart)
            if (overlap > 1e-6).all():
                axis = int(overlap.argmin())
                half = overlap[axis] / 2 * (1 if apart[axis] >= 0 else -1)
                centres[first, axis] -= half
                centres[second, axis] += half
                moved = True
        if not moved:
            break
    return centres


def plot_shift(found: Robustness, words: Mapping[str, str], unit: str) -> Figure:
    """Accuracy and the share of unchanged answers against the length of the shift, mean over all directions.

    Args:
        words: `accuracy` and `consistency`.
    """
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    rows = found.select("shift")
    lengths = sorted({row.strength for row in rows})
    for part, colour, marker in (("accuracy", TRAIN, "o"), ("consistency", VALIDATION, "s")):
        means = [100 * float(np.mean([getattr(row, part) for row in rows if row.strength == x])) for x in lengths]
        axes.plot(lengths, means, color=colour, marker=marker, label=words[part])
    axes.set(xlabel=unit, ylabel="%", ylim=(0, 103))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    return figure


def _shorten_block(name: str, longest: int) -> str:
    return shorten_text(name.removeprefix("features."), longest)
