"""Heat maps on images: where the network looked for its answer."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnbench.runs.captions import describe_answer
from cnnbench.runs.class_names import count_cells, fit_names
from cnnbench.runs.drawing import Box, draw_input, make_grid, set_limits
from cnnbench.runs.explanation import ShownImage
from cnnbench.runs.figures import TRAIN, VALIDATION
from cnnbench.storage.text import format_percent

FOR, AGAINST = VALIDATION, TRAIN  # Okabe and Ito's orange-red and blue


def plot_heat_maps(images: Sequence[ShownImage], class_names: Sequence[str], words: Mapping[str, str]) -> Figure:
    """A column for each image: the image with its answer, and below it the heat maps that there are.

    Args:
        words: those of `describe_answer`, `grad_cam`, `occlusion`, `for_against`.
    """
    kinds = [kind for kind in ("grad_cam", "occlusion") if any(getattr(one, kind) is not None for one in images)]
    names, cell, caption, left = fit_names(class_names), 1.45, 0.42, 1.0
    width, height = left + cell * len(images), caption + cell * (1 + len(kinds)) + 0.3 * bool(kinds)
    figure, axes = make_grid(width, height, "", top=0.05)
    for row, kind in enumerate(kinds, 1):
        axes.text(left - 0.1, caption + cell * (row + 0.5), words[kind], ha="right", va="center", fontsize=9)
    for column, one in enumerate(images):
        x = left + cell * column
        label, prediction = (None if k is None else names.shown[k] for k in (one.label, one.prediction))
        lines = describe_answer(words, label, prediction, one.probability or 0.0)
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
                draw_input(axes, blend_heat(one.pixels, heat), box)
            else:
                if heat is not None:
                    _draw_band(axes, heat, box)
                draw_input(axes, one.pixels, box)
    if kinds:
        axes.text(left + 0.05, height - 0.05, words["for_against"], ha="left", va="bottom", fontsize=8, alpha=0.8)
    set_limits(axes, width, height)
    return figure


def plot_answer(shown: ShownImage, class_names: Sequence[str]) -> Figure:
    """An image with its answer, and beside it the heat map that it has."""
    assert shown.prediction is not None
    assert shown.probability is not None
    names, cell, caption = fit_names([class_names[shown.prediction]], 40), 2.2, 0.5
    heat, kind = (shown.occlusion, "occlusion") if shown.grad_cam is None else (shown.grad_cam, "Grad-CAM")
    assert heat is not None
    figure, axes = make_grid(2 * cell, cell + caption, "", top=0.05)
    answer = f"{names.shown[0] if not names.numbered else f'#{shown.prediction}'} ({format_percent(shown.probability)})"
    file = fit_names([os.path.basename(shown.name)], 32)
    for column, (text, pixels, fonts) in enumerate(
        [
            (f"{'' if file.numbered else file.shown[0]}\n{answer}", shown.pixels, [*names.fonts, *file.fonts]),
            (kind, blend_heat(shown.pixels, heat), names.fonts),
        ]
    ):
        left = cell * column
        size = min(10.0, 210 / max(map(count_cells, text.split("\n"))))
        axes.text(left + cell / 2, caption - 0.04, text, ha="center", va="bottom", fontsize=size, fontfamily=fonts)
        draw_input(axes, pixels, (left + 0.06, caption, cell - 0.12, cell - 0.12))
    set_limits(axes, 2 * cell, cell + caption)
    return figure


def blend_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey, with orange where the heat is above 0 and blue below, uint8 (3, H, W)."""
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
    left, top, width, height = box
    axes.imshow(band, extent=(left, left + width, top + height, top))
