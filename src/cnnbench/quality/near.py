"""Pairs of nearly equal images: compressed again, resized, shifted by a pixel, brighter or darker.

Candidates are pairs whose coarse descriptions agree; every pair of images is compared, block by block, as products of
matrices. Each candidate is then compared pixel by pixel.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from cnnbench.quality.probes import GREY, Probes

GRID = 8  # points of a description along each side
BLUR = 1.5  # pixels of a thumbnail, before it is described
SCALE = 2048  # of the vectors: sums of products stay below 2**24
ALIKE = 0.975  # the least correlation of candidates
MOST_CANDIDATES = 4  # of an image
BLOCK = 1024  # images compared with others at a time
PAIRS = 4096  # candidates compared pixel by pixel at a time
SMOOTH = 0.5  # pixels of blur before that: JPEG and resizing change the finest detail
SHARPNESS = 0.5  # pixels of blur between a resized image and its original
SHIFTS = [(down, across) for down in range(3) for across in range(3)]  # from -1 to 1 pixel
ROUGHLY_NEAR, NEAR = 0.3, 0.1  # the largest distance of a pair, before and after sharpness is compared
MOST_GAIN = 1.3
LEAST_SIDE = 8  # pixels of a thumbnail; smaller ones do not tell images apart
SAME_SHAPE = 0.05  # the largest difference of the logarithms of two ratios of sides

Pair = tuple[int, int, float]


def find_near_pairs(probes: Probes, rows: np.ndarray) -> list[Pair]:
    """The pairs of nearly equal images among some rows, with their distances, the nearest first.

    Args:
        rows: ascending; none of these images may be constant, or have the same pixels as another.
    """
    if min(probes.thumbnails.shape[2:]) < LEAST_SIDE:
        return []
    described = describe_images(probes.thumbnails, rows)
    shapes = np.log(probes.sizes[rows, 1] / probes.sizes[rows, 0])
    pairs: list[Pair] = []
    for candidates in _find_candidates(described, shapes):
        for start in range(0, len(candidates), PAIRS):
            first, second = rows[candidates[start : start + PAIRS]].T
            distances = measure_distances(probes.thumbnails[first], probes.thumbnails[second])
            for at in np.flatnonzero(distances <= NEAR):
                pairs.append((int(first[at]), int(second[at]), float(distances[at])))
    return sorted(pairs, key=lambda pair: (pair[2], pair[1], pair[0]))


def describe_images(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Coarse descriptions: vectors of length `SCALE` whose products give their correlations, float32 (n, GRID²).

    They do not change with brightness and contrast nor, where there is a plain border, with a shift. Their values are
    whole numbers so small that products of matrices are exact, whatever the order in which a library adds.
    """
    height, width = thumbnails.shape[2:]
    described = np.empty((len(rows), GRID * GRID), np.float32)
    steps = (np.arange(GRID) + 0.5) / GRID
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        grey = _to_grey(thumbnails[rows[part]])
        blurred = ndimage.gaussian_filter(grey, (0, BLUR, BLUR), mode="nearest")
        down, across = _locate_centres(grey)
        ys = np.clip(steps * height - 0.5 + down[:, None], 0, height - 1)
        xs = np.clip(steps * width - 0.5 + across[:, None], 0, width - 1)
        found = _interpolate(blurred, ys, xs).reshape(-1, GRID * GRID)
        found -= found.mean(1, keepdims=True)
        described[part] = np.rint(SCALE * found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6))
    return described


def _to_grey(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) as float32 (N, H, W)."""
    pixels = images.astype(np.float32)
    return pixels[:, 0] if images.shape[1] == 1 else np.tensordot(pixels, GREY, ([1], [0]))


def _locate_centres(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far below and to the right of the middle lies the centre of what stands out from the border, in pixels."""
    border = np.concatenate((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)
    weights = np.abs(grey - np.median(border, 1)[:, None, None])
    total = np.maximum(weights.sum((1, 2)), 1e-6)
    offsets = []
    for axis in (1, 2):
        size = grey.shape[axis]
        places = np.arange(size) - (size - 1) / 2
        centre = (weights.sum(3 - axis) * places).sum(1) / total
        offsets.append(np.clip(centre, -size / 4, size / 4))
    return offsets[0], offsets[1]


def _interpolate(images: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """The values of images (N, H, W) at the points of a grid with rows `ys` (N, g) and columns `xs` (N, g)."""
    number = np.arange(len(images))[:, None, None]
    top, left = (
        np.minimum(np.floor(at).astype(int), size - 2) for at, size in zip((ys, xs), images.shape[1:], strict=True)
    )
    down, across = (ys - top)[:, :, None], (xs - left)[:, None, :]
    top, left = top[:, :, None], left[:, None, :]
    upper = images[number, top, left] * (1 - across) + images[number, top, left + 1] * across
    lower = images[number, top + 1, left] * (1 - across) + images[number, top + 1, left + 1] * across
    return upper * (1 - down) + lower * down


def _find_candidates(described: np.ndarray, shapes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of places with alike descriptions, the first less than the second, (m, 2), some at a time."""
    count = len(described)
    for start in range(0, count, BLOCK):
        block, found = described[start : start + BLOCK], []
        for left in range(start, count, BLOCK * 8):
            alike = block @ described[left : left + BLOCK * 8].T
            places = np.flatnonzero(alike > ALIKE * SCALE**2)
            first, second = np.divmod(places, alike.shape[1])
            pairs = np.stack((first + start, second + left, alike.ravel()[places].astype(np.int64)))
            is_new = (pairs[0] < pairs[1]) & (np.abs(shapes[pairs[0]] - shapes[pairs[1]]) <= SAME_SHAPE)
            found.append(_keep_most_alike(pairs[:, is_new]))
        yield _keep_most_alike(np.concatenate(found, 1))[:2].T


def _keep_most_alike(pairs: np.ndarray) -> np.ndarray:
    """Of pairs (3, m), a first place, a second and how alike they are, the most alike of each first place."""
    pairs = pairs[:, np.lexsort((pairs[1], -pairs[2], pairs[0]))]
    rank = np.arange(pairs.shape[1]) - np.searchsorted(pairs[0], pairs[0])
    return pairs[:, rank < MOST_CANDIDATES]


def measure_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How different the images of each pair are, uint8 (m, C, h, w) each: float32 (m,), 0 for equal, 1 for unrelated.

    It is the share of the deviation that remains after one image is shifted by up to a pixel, its brightness and
    contrast are fitted to the other's, and the sharper of them is blurred: the square root of 1 − r², for their
    correlation r.
    """
    ones, others = (images.astype(np.float32) for images in (first, second))
    distances, shifts = _align(_blur(ones, SMOOTH), _blur(others, SMOOTH))
    near = np.flatnonzero(distances <= ROUGHLY_NEAR)
    blurrier = float(np.hypot(SMOOTH, SHARPNESS))
    for one, other in ((SMOOTH, blurrier), (blurrier, SMOOTH)):
        found, _ = _align(_blur(ones[near], one), _blur(others[near], other), shifts[near])
        distances[near] = np.minimum(distances[near], found)
    return distances


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest")


def _align(first: np.ndarray, second: np.ndarray, shifts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The least distance of each pair over all shifts by up to a pixel, and the number of that shift.

    Args:
        shifts: consider only this shift of each pair.
    """
    height, width = first.shape[2:]
    middle, energy = _centre(first[:, :, 1:-1, 1:-1])
    best, chosen = np.ones(len(first), np.float32), np.zeros(len(first), np.int64)
    for number, (down, across) in enumerate(SHIFTS):
        at = np.arange(len(first)) if shifts is None else np.flatnonzero(shifts == number)
        part, other_energy = _centre(second[at, :, down : height - 2 + down, across : width - 2 + across])
        r = np.einsum("ij,ij->i", middle[at], part) / np.maximum(np.sqrt(energy[at] * other_energy), 1e-6)
        distance = np.sqrt(np.clip(1 - r * np.abs(r), 0, 1))  # a negative has r < 0
        gain = np.sqrt(energy[at] / np.maximum(other_energy, 1e-6))
        distance[(gain > MOST_GAIN) | (gain < 1 / MOST_GAIN)] = 1
        is_better = distance < best[at]
        best[at[is_better]], chosen[at[is_better]] = distance[is_better], number
    return best, chosen


def _centre(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (m, n) of images less their mean, and the sum of their squares (m,)."""
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    flat = flat - flat.mean(1, keepdims=True)
    return flat, np.einsum("ij,ij->i", flat, flat)
