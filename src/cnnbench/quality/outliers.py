"""Images that are far from nearly all others in one figure.

By Tukey's rule, a value is "far out" if it lies more than three interquartile ranges beyond the quartiles (Exploratory
Data Analysis, 1977).
"""

from collections.abc import Iterator

import numpy as np

from cnnbench.quality.probes import Probes

FAR = 3.0
# The least interquartile ranges, for sets of nearly equal images: log2 of the number of pixels and of the ratio of the
# sides, grey levels.
LEAST_SIZE, LEAST_SHAPE, LEAST_LEVELS = 0.33, 0.1, 8.0
RARE = 0.01  # the share up to which grey images among coloured ones, or the reverse, are unusual
BLANK = 2.0  # grey levels of standard deviation

Suspect = tuple[int, str]  # a row and what is unusual about it


def find_far_out(values: np.ndarray, floor: float, *, low: bool = True) -> np.ndarray:
    """The places of values that are far out, the farthest first.

    Args:
        floor: the least interquartile range.
        low: whether a small value may be far out.
    """
    if not len(values):
        return np.empty(0, np.int64)
    first, third = np.percentile(values, (25, 75))
    reach = FAR * max(third - first, floor)
    beyond = np.maximum(values - (third + reach), (first - reach) - values if low else -np.inf)
    found = np.flatnonzero(beyond > 0)
    return found[np.argsort(-beyond[found], kind="stable")]


def find_suspects(probes: Probes) -> Iterator[tuple[str, list[Suspect]]]:
    """The suspects of each kind among readable images."""
    good = np.flatnonzero(probes.are_good)
    is_constant = probes.ranges[good] == 0
    is_blank = ~is_constant & (probes.deviations[good] < BLANK)
    yield "constant", [(int(row), f"every pixel is {_format_colour(probes.colours[row])}") for row in good[is_constant]]
    yield "blank", [(int(row), f"standard deviation {probes.deviations[row]:.1f} of 255") for row in good[is_blank]]
    height, width = probes.sizes[good].T.astype(np.float64)
    found = good[find_far_out(np.log2(height * width), LEAST_SIZE)]
    yield "size", [(int(row), _format_size(probes.sizes[row])) for row in found]
    found = good[find_far_out(np.log2(width / height), LEAST_SHAPE)]
    yield "shape", [(int(row), _format_size(probes.sizes[row])) for row in found]
    # Empty images are unusually bright or dark too, but have been reported.
    good = good[~is_constant & ~is_blank]
    levels = probes.colours[good].astype(np.float64) @ (0.299, 0.587, 0.114)
    far = find_far_out(levels, LEAST_LEVELS)
    yield "brightness", [(int(good[at]), f"mean {levels[at]:.0f} of 255") for at in far]
    yield "colour", _find_colours(probes, good)


def _find_colours(probes: Probes, good: np.ndarray) -> list[Suspect]:
    is_grey = probes.are_grey[good]
    share = is_grey.mean() if len(good) else 0.0
    if share >= 1 - RARE:
        return [(int(row), "in colour, among grey images") for row in good[~is_grey]]
    found = [(int(row), "grey, among coloured images") for row in good[is_grey]] if share <= RARE else []
    coloured = good[~is_grey]
    if not len(coloured):
        return found
    red, green, blue = probes.colours[coloured].T.astype(np.float64)
    # Opponent colours: brightness has no part in them.
    opponents = np.stack((red - green, (red + green) / 2 - blue))
    distances = np.hypot(*(opponents - np.median(opponents, axis=1, keepdims=True)))
    far = coloured[find_far_out(distances, LEAST_LEVELS, low=False)]
    return found + [(int(row), f"mean colour {_format_colour(probes.colours[row])}") for row in far]


def _format_colour(colour: np.ndarray) -> str:
    levels = [f"{level:.0f}" for level in colour]
    return levels[0] if len({*levels}) == 1 else f"({', '.join(levels)})"


def _format_size(size: np.ndarray) -> str:
    return f"{size[1]} × {size[0]} pixels"
