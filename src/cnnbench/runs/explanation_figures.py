"""The pictures of `cnnbench explain`; text has matplotlib's current colour, so that a page can choose its own.

Every figure is one set of axes, measured in inches from the top left, as in `figures.make_grid`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cnnbench.runs.class_names import count_cells, fit_names, shorten_text
from cnnbench.runs.explanation import Activation, Embedding, Filters, SeenPart, ShownImage
from cnnbench.runs.figures import TRAIN, VALIDATION, make_grid
from cnnbench.runs.robustness import Robustness
from cnnbench.storage.text import format_percent

FOR, AGAINST = VALIDATION, TRAIN  # Okabe and Ito's vermilion and blue
SHARP, LARGEST = 64, 192  # pixels of a side: up to the first they are drawn as squares; larger pictures are reduced
COLOURED = 10  # classes with a colour of their own
LABELS = 1.75  # inches of the names on the left
Box = tuple[float, float, float, float]  # left, top, width, height


def plot_filters(filters: Filters) -> Figure:
    """The weights of each filter: blue below 0, red above; those of three channels as colours."""
    weights, columns, cell = filters.weights, 8, 0.95
    rows = -(-len(weights) // columns)
    figure, axes = make_grid(columns * cell, rows * cell, "", top=0.05)
    limit = float(np.abs(weights).max()) or 1.0
    for place, one in enumerate(weights):
        box = (place % columns * cell + 0.05, place // columns * cell + 0.05, cell - 0.1, cell - 0.1)
        if one.ndim == 2:
            _draw_curves(axes, one / limit, box, markers=True)
        elif len(one) == 3:
            _draw_pixels(axes, _to_bytes((one / (np.abs(one).max() or 1.0) + 1) / 2).transpose(1, 2, 0), box)
        else:
            _draw_pixels(axes, colormaps["RdBu_r"]((one.mean(0) / limit + 1) / 2, bytes=True), box)
    _finish(axes, columns * cell, rows * cell)
    return figure


def plot_activations(shown: ShownImage) -> Figure:
    """The image, and a row for each block: its maps or units, dark where they are small."""
    cell, width = 0.9, LABELS + 8 * 0.9
    height = cell * (1 + len(shown.activations))
    figure, axes = make_grid(width, height, "", top=0.05)
    _draw_input(axes, shown.pixels, (LABELS + 0.04, 0.04, cell - 0.08, cell - 0.08))
    for row, one in enumerate(shown.activations, 1):
        top, shape = row * cell, " × ".join(map(str, one.shape))
        axes.text(0.05, top + 0.38, _shorten_block(one.block, 24), ha="left", va="center", fontsize=8.5)
        axes.text(0.05, top + 0.56, shape, ha="left", va="center", fontsize=7.5, alpha=0.75)
        _draw_activation(axes, one, (LABELS, top, width - LABELS, cell))
    _finish(axes, width, height)
    return figure


def _draw_activation(axes: Axes, one: Activation, box: Box) -> None:
    left, top, width, height = box
    values = one.values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0)
    if values.ndim == 1:
        rows = max(range(1, 9), key=lambda n: min(width / -(-len(values) // n), (height - 0.1) / n))
        columns = -(-len(values) // rows)
        cell = min(0.4, width / columns, (height - 0.1) / rows)
        cells = np.zeros((rows * columns, 4), np.uint8)  # those without a unit stay clear
        cells[: len(values)] = colormaps["viridis"](scaled, bytes=True)
        inner = (left, top + (height - rows * cell) / 2, columns * cell, rows * cell)
        _draw_pixels(axes, cells.reshape(rows, columns, 4), inner)
        return
    for place, part in enumerate(scaled):
        inner = (left + place * height + 0.04, top + 0.04, height - 0.08, height - 0.08)
        if part.ndim == 1:
            _draw_curves(axes, 2 * part[None] - 1, inner)
        else:
            _draw_pixels(axes, colormaps["viridis"](part, bytes=True), inner)


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
    _finish(axes, width, height)
    return figure


def _draw_seen(axes: Axes, pixels: np.ndarray, spans: Sequence[tuple[float, float]], box: Box) -> None:
    left, top, width, height = box
    if pixels.ndim == 2:
        ((start, end),), length = spans, pixels.shape[1]
        part = (left + width * start / length, top, width * (end - start) / length, height)
        axes.add_patch(Rectangle(part[:2], *part[2:], facecolor=FOR, alpha=0.25, edgecolor=FOR))
        _draw_input(axes, pixels, box)
        return
    rows, columns = (slice(int(start), int(np.ceil(end))) for start, end in spans)
    faint = (64 + 0.3 * pixels.astype(np.float64)).astype(np.uint8)
    faint[:, rows, columns] = pixels[:, rows, columns]
    left, top, width, height = _draw_input(axes, faint, box)
    (first, last), (near, far) = spans
    down, across = height / pixels.shape[1], width / pixels.shape[2]
    corner = (left + near * across, top + first * down)
    axes.add_patch(
        Rectangle(
            corner, (far - near) * across, (last - first) * down, fill=False, edgecolor=FOR, linewidth=2, zorder=3
        )
    )


def plot_heat_maps(images: Sequence[ShownImage], class_names: Sequence[str], words: Mapping[str, str]) -> Figure:
    """A column for each image: the image with its answer, and below it the heat maps that there are.

    Args:
        words: `true`, `answer`, `grad_cam`, `occlusion`, `for_against`.
    """
    kinds = [kind for kind in ("grad_cam", "occlusion") if any(getattr(one, kind) is not None for one in images)]
    names, cell, caption, left = fit_names(class_names), 1.45, 0.42, 1.0
    width, height = left + cell * len(images), caption + cell * (1 + len(kinds)) + 0.3 * bool(kinds)
    figure, axes = make_grid(width, height, "", top=0.05)
    for row, kind in enumerate(kinds, 1):
        axes.text(left - 0.1, caption + cell * (row + 0.5), words[kind], ha="right", va="center", fontsize=9)
    for column, one in enumerate(images):
        x = left + cell * column
        lines = [] if one.label is None else [f"{words['true']} {names.shown[one.label]}"]
        if one.prediction is not None and one.probability is not None:
            share = format_percent(one.probability, 0)
            lines.append(f"{words['answer']} {names.shown[one.prediction]} ({share})")
        size = min(8.5, 150 / max(map(count_cells, lines), default=1))
        wrong = one.label is not None and one.prediction not in (None, one.label)
        axes.text(
            x + cell / 2, caption - 0.05, "\n".join(lines), ha="center", va="bottom", fontsize=size,
            fontfamily=names.fonts, fontweight="bold" if wrong else "normal",
        )  # fmt: skip
        for row, kind in enumerate(["", *kinds]):
            box = (x + 0.05, caption + cell * row + 0.05, cell - 0.1, cell - 0.1)
            heat = getattr(one, kind) if kind else None
            if heat is not None and one.pixels.ndim == 3:
                _draw_input(axes, blend_heat(one.pixels, heat), box)
            else:
                if heat is not None:
                    _draw_band(axes, heat, box)
                _draw_input(axes, one.pixels, box)
    if kinds:
        axes.text(left + 0.05, height - 0.05, words["for_against"], ha="left", va="bottom", fontsize=8, alpha=0.8)
    _finish(axes, width, height)
    return figure


def blend_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey, with vermilion where the heat is above 0 and blue below, uint8 (3, H, W)."""
    grey = pixels.astype(np.float64).mean(0)
    share, colour = _colour_heat(heat)
    mixed = (1 - share[..., None]) * grey[..., None] + share[..., None] * colour
    return mixed.round().astype(np.uint8).transpose(2, 0, 1)


def _colour_heat(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How strongly each place is coloured, from 0 to 0.8, and its colour as (…, 3) from 0 to 255."""
    scaled = heat.astype(np.float64) / (np.abs(heat).max() or 1.0)
    ends = [np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)], float) for text in (FOR, AGAINST)]
    return 0.8 * np.abs(scaled), np.where(scaled[..., None] >= 0, *ends)


def _draw_band(axes: Axes, heat: np.ndarray, box: Box) -> None:
    """Colour the ground behind a signal."""
    share, colour = _colour_heat(heat)
    band = np.concatenate([colour, 255 * share[:, None]], axis=1).round().astype(np.uint8)[None]
    _draw_pixels(axes, band, box)


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
        for number, label in enumerate(common):
            x, y = np.median(places[embedding.labels == label], axis=0)
            axes.text(
                x, y, names.shown[label], ha="center", va="center", fontsize=9, fontfamily=names.fonts, zorder=4,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": paper, "edgecolor": colours[number], "linewidth": 1.5},
            )  # fmt: skip
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    return figure


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


def _finish(axes: Axes, width: float, height: float) -> None:
    # Last, because every imshow sets the limits to its own image.
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def _shorten_block(name: str, longest: int) -> str:
    return shorten_text(name.removeprefix("features."), longest)


def _draw_input(axes: Axes, pixels: np.ndarray, box: Box) -> Box:
    """Draw an image, uint8 (C, H, W), in its own proportions, or a signal, (C, L); returns the place it takes."""
    if pixels.ndim == 2:
        values = pixels.astype(np.float64)
        low, high = values.min(), values.max()
        _draw_curves(axes, 2 * (values - low) / ((high - low) or 1.0) - 1, box)
        return box
    if max(pixels.shape[1:]) > LARGEST:
        step = -(-max(pixels.shape[1:]) // LARGEST)
        pixels = pixels[:, ::step, ::step]
    shown = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    return _draw_pixels(axes, shown.transpose(1, 2, 0), box)


def _draw_pixels(axes: Axes, pixels: np.ndarray, box: Box) -> Box:
    """Draw colours, uint8 (H, W, 3) or with opacity (H, W, 4), in their own proportions inside a box."""
    left, top, width, height = box
    rows, columns = pixels.shape[:2]
    if rows > 1:  # a band behind a signal fills its box
        side = min(width / columns, height / rows)
        left, top = left + (width - columns * side) / 2, top + (height - rows * side) / 2
        width, height = columns * side, rows * side
    smooth = "none" if max(rows, columns) <= SHARP else "antialiased"
    axes.imshow(pixels, extent=(left, left + width, top + height, top), interpolation=smooth)
    return left, top, width, height


def _draw_curves(axes: Axes, values: np.ndarray, box: Box, *, markers: bool = False) -> None:
    """Draw a line for each channel, from −1 at the bottom to 1 at the top; (C, L)."""
    left, top, width, height = box
    if markers:  # the zero line of weights
        axes.plot([left, left + width], [top + height / 2] * 2, color="#999999", linewidth=0.5)
    for channel, line in enumerate(values):
        x = np.linspace(left, left + width, len(line)) if len(line) > 1 else np.array([left + width / 2])
        dots: dict[str, Any] = {"marker": "o", "markersize": 2.5} if markers or len(line) == 1 else {}
        axes.plot(x, top + height * (1 - line) / 2, color=f"C{channel % 10}", linewidth=0.9, **dots)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Shares from 0 to 1 as bytes."""
    return (255 * values).round().clip(0, 255).astype(np.uint8)
