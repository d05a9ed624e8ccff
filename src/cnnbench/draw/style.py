"""How the training images are drawn: their paper, ink and pen, and how drawings lie in them."""

from dataclasses import dataclass

import numpy as np

FLAT = 24  # levels between pixels of the border that count as one paper
MOSTLY = 0.8  # of the border's pixels, before their colour is the paper's
LEAST_INK = 0.125  # of the way from paper to ink; below it, compression has left traces
STEADY, STEADY_PIXELS = 0.04, 0.45  # centres and sizes that vary less, of the longer side or in pixels, are the same
WIDEST_PEN, THINNEST_PEN = 1 / 5, 1 / 32  # of the shorter side
PLAIN_PEN = 1 / 12  # where the images are no drawings


@dataclass(frozen=True)
class Fit:
    """How the training images were centred and scaled.

    Attributes:
        by: what lies at the centre: `mass`, the centre of mass of the ink, or `box`, the middle of the box around it.
        centre: x and y, in pixels from the top left corner.
        size: of the longer side of the box around the ink; None if it varies.
    """

    by: str
    centre: tuple[float, float]
    size: float | None


@dataclass(frozen=True)
class Style:
    """What a drawing needs to look like the training images.

    Attributes:
        paper, ink: a level from 0 to 255 for each channel.
        pen: the width of strokes in pixels.
        fit: None if the images lie in no common way.
    """

    paper: tuple[int, ...]
    ink: tuple[int, ...]
    pen: float
    fit: Fit | None = None


def choose_plain_style(shape: tuple[int, ...], polarity: str | None) -> Style:
    """A style for images (C, H, W) that cannot be measured: dark on white paper unless the polarity is known."""
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

    Area and outline of a stroke with round ends give its width w, because the outline is 2 · area / w + π · w / 2. The
    sum of all gradients is the length of the outline, however soft the stroke's edge; uneven ink does not count.

    Args:
        ink: from 0 to 1, (N, H, W), with some ink in every image.
    """
    padded = np.pad(np.clip(2 * ink - 0.5, 0, 1), ((0, 0), (1, 1), (1, 1)))
    down, across = np.diff(padded, axis=1)[:, :, 1:], np.diff(padded, axis=2)[:, 1:]
    area, outline = padded.sum((1, 2)), np.hypot(down, across).sum((1, 2))
    widths = (outline - np.sqrt(np.maximum(outline**2 - 4 * np.pi * area, 0))) / np.pi
    side = min(ink.shape[1:])
    return float(np.clip(np.median(widths), side * THINNEST_PEN, side * WIDEST_PEN))


def measure_fit(ink: np.ndarray) -> Fit | None:
    """How drawings lie in their images; None if neither their centre of mass nor their box lies at a common place.

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
