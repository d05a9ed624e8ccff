"""Images, signals and colours inside one set of axes, whose unit is an inch from the top left."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHARP, LARGEST = 64, 192  # pixels of a side: up to the first they are drawn as squares; larger pictures are reduced
Box = tuple[float, float, float, float]  # left, top, width, height


def make_grid(width: float, height: float, title: str, *, top: float, margin: float = 0.0) -> tuple[Figure, Axes]:
    """One set of axes for a whole grid of images, in inches."""
    # Axes for each image would take ten times as long to draw.
    across = width + 2 * margin
    figure = Figure(figsize=(across, height + top), layout="none")  # type: ignore[arg-type]
    axes = figure.add_axes((margin / across, 0.0, width / across, max(height, 0.01) / (height + top)))
    axes.axis("off")
    figure.suptitle(title, y=1 - (0.1 if margin else 0.15) / (height + top), va="top", fontsize=11)
    return figure, axes


def set_limits(axes: Axes, width: float, height: float) -> None:
    """Show the whole of the axes; call it last."""
    # Every imshow sets the limits to its own image.
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def draw_input(axes: Axes, pixels: np.ndarray, box: Box) -> Box:
    """Draw an image, uint8 (C, H, W), in its own proportions, or a signal, (C, L); returns the place it takes."""
    if pixels.ndim == 2:
        values = pixels.astype(np.float64)
        low, high = values.min(), values.max()
        draw_channels(axes, 2 * (values - low) / ((high - low) or 1.0) - 1, box)
        return box
    if max(pixels.shape[1:]) > LARGEST:
        step = -(-max(pixels.shape[1:]) // LARGEST)
        pixels = pixels[:, ::step, ::step]
    shown = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    return draw_pixels(axes, shown.transpose(1, 2, 0), box)


def draw_pixels(axes: Axes, pixels: np.ndarray, box: Box) -> Box:
    """Draw colours, uint8 (H, W, 3) or with opacity (H, W, 4), in their own proportions inside a box."""
    left, top, width, height = box
    rows, columns = pixels.shape[:2]
    side = min(width / columns, height / rows)
    left, top = left + (width - columns * side) / 2, top + (height - rows * side) / 2
    width, height = columns * side, rows * side
    smooth = "none" if max(rows, columns) <= SHARP else "antialiased"
    axes.imshow(pixels, extent=(left, left + width, top + height, top), interpolation=smooth)
    return left, top, width, height


def draw_channels(axes: Axes, values: np.ndarray, box: Box, *, markers: bool = False) -> None:
    """Draw a line for each channel, from −1 at the bottom to 1 at the top; (C, L)."""
    left, top, width, height = box
    if markers:  # the zero line of weights
        axes.plot([left, left + width], [top + height / 2] * 2, color="#999999", linewidth=0.5)
    for channel, line in enumerate(values):
        x = np.linspace(left, left + width, len(line)) if len(line) > 1 else np.array([left + width / 2])
        dots: dict[str, Any] = {"marker": "o", "markersize": 2.5} if markers or len(line) == 1 else {}
        axes.plot(x, top + height * (1 - line) / 2, color=f"C{channel % 10}", linewidth=0.9, **dots)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Shares from 0 to 1 as bytes."""
    return (255 * values).round().clip(0, 255).astype(np.uint8)
