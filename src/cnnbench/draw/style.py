"""The style of the training images: paper, ink and pen, and the position of drawings in them."""

from dataclasses import dataclass

import numpy as np

FLAT = 24  # the largest difference, in levels, of pixels that have the colour of the paper
MOSTLY = 0.8  # the share of the border's pixels that must have this colour
LEAST_INK = 0.125  # of the way from paper to ink; below it are artefacts of compression
STEADY, STEADY_PIXELS = 0.04, 0.45  # centres and sizes are equal up to this share of the longer side, or these pixels
WIDEST_PEN, THINNEST_PEN = 1 / 5, 1 / 32  # of the shorter side
PLAIN_PEN = 1 / 12  # if the images are not drawings


@dataclass(frozen=True)
class Fit:
    """How the training images were centred and scaled.

    Attributes:
        by: the point at the centre: `mass`, the centre of mass of the ink, or `box`, the middle of its bounding box.
        centre: x and y, in pixels from the top left corner.
        size: of the longer side of the bounding box; None if it varies.
    """

    by: str
    centre: tuple[float, float]
    size: float | None


@dataclass(frozen=True)
class Style:
    """The settings with which a drawing looks like the training images.

    Attributes:
        paper, ink: a level from 0 to 255 for each channel.
        pen: the width of strokes in pixels.
        fit: None if the positions vary.
    """

    paper: tuple[int, ...]
    ink: tuple[int, ...]
    pen: float
    fit: Fit | None = None


def choose_plain_style(shape: tuple[int, ...], polarity: str | None) -> Style:
    """The default style for images (C, H, W): dark on white paper, unless the polarity is known to be the other."""
    channels, *sides = shape
    paper, ink = (0, 255) if polarity == "light_on_dark" else (255, 0)
    return Style((paper,) * channels, (ink,) * channels, min(sides) * PLAIN_PEN)


def measure_style(images: np.ndarray, polarity: str | None) -> Style:
    """Measure the style of training images.

    Args:
        images: uint8, (N, C, H, W), with N at least 1.
        polarity: as `find_polarity` gives it.
    """
    channels = images.shape[1]
    plain = choose_plain_style(images.shape[1:], polarity)
    sides = (images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1])
    border = np.moveaxis(np.concatenate(sides, axis=2), 1, 2).reshape(-1, channels).astype(float)
    paper = np.median(border, axis=0)
    if polarity is None and (np.abs(border - paper).max(1) <= FLAT).mean() < MOSTLY:
        return plain
    distance = np.abs(images - paper[:, None, None]).max(1)
    strongest = distance.max((1, 2))
    is_drawn = strongest > FLAT
    if not is_drawn.any():
        return plain
    ink = distance[is_drawn] / strongest[is_drawn, None, None]
    ink[ink < LEAST_INK] = 0
    levels = tuple(paper.round().astype(int).tolist())
    contrast = round(float(np.median(strongest[is_drawn])))
    inked = (min(255, level + contrast) if level < 128 else max(0, level - contrast) for level in levels)
    return Style(levels, tuple(inked), measure_pen(ink), measure_fit(ink))


def measure_pen(ink: np.ndarray) -> float:
    """The usual width of strokes in pixels.

    Args:
        ink: from 0 to 1, (N, H, W), with some ink in every image.
    """
    # A stroke of width w with round ends has an outline of 2 · area / w + π · w / 2, which gives w. The sum of all
    # gradients is the length of the outline, however soft the edge; clipping removes the unevenness of the ink.
    padded = np.pad(np.clip(2 * ink - 0.5, 0, 1), ((0, 0), (1, 1), (1, 1)))
    down, across = np.diff(padded, axis=1)[:, :, 1:], np.diff(padded, axis=2)[:, 1:]
    area, outline = padded.sum((1, 2)), np.hypot(down, across).sum((1, 2))
    widths = (outline - np.sqrt(np.maximum(outline**2 - 4 * np.pi * area, 0))) / np.pi
    side = min(ink.shape[1:])
    return float(np.clip(np.median(widths), side * THINNEST_PEN, side * WIDEST_PEN))


def measure_fit(ink: np.ndarray) -> Fit | None:
    """The position of drawings in their images; None if neither their centres of mass nor their boxes agree.

    Args:
        ink: as for `measure_pen`.
    """
    height, width = ink.shape[1:]
    steady = max(STEADY_PIXELS, STEADY * max(height, width))
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    total = ink.sum((1, 2))
    mass = np.stack([ink.sum(1) @ columns, ink.sum(2) @ rows], 1) / total[:, None]
    starts_ends = np.stack([_find_ends(ink.max(1) > 0), _find_ends(ink.max(2) > 0)], 1)  # (N, axis, start and end)
    found = {"mass": mass, "box": starts_ends.mean(2)}
    spreads = {by: centres.std(0).max() for by, centres in found.items()}
    by = min(spreads, key=lambda one: spreads[one])
    if spreads[by] > steady:
        return None
    x, y = np.median(found[by], axis=0).tolist()
    longest = (starts_ends[..., 1] - starts_ends[..., 0]).max(1)
    return Fit(by, (x, y), float(np.median(longest)) if longest.std() <= steady else None)


def _find_ends(is_inked: np.ndarray) -> np.ndarray:
    """The first place with ink and the one behind the last, (N, 2), of (N, L)."""
    return np.stack([is_inked.argmax(1), is_inked.shape[1] - is_inked[:, ::-1].argmax(1)], 1)
