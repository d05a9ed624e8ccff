"""Pairs of nearly equal images: compressed again, resized, shifted by a pixel, brighter or darker.

Coarse descriptions of all images are compared with each other, as products of matrices. The pairs most alike are then
compared pixel by pixel.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from cnnbench.processes.cores import count_cores
from cnnbench.quality.probes import Probes

# The constants were chosen on MNIST and CIFAR-10, between the distances of planted copies and of the most similar
# distinct images (benchmarks/EVIDENCE.md).
GRID = 8  # points of a description along each side
BLUR = 1.5  # pixels of a thumbnail, before it is described
# Of the vectors, whose values are whole numbers: sums of products stay below 2**24, so that float32 products are exact,
# whatever the order in which a library adds.
SCALE = 2048
LEAST_ALIKE = 0.85  # correlation of candidates; more where images are so much alike that there would be more than
MEAN_CANDIDATES, MOST_CANDIDATES = 64, 3  # of an image: before the most alike are chosen, and after
SAMPLED = 2048  # images by which the threshold of candidates is chosen
BLOCK = 1024  # images compared with others at a time
PAIRS = 4096  # candidates compared pixel by pixel at a time
SMOOTH = 0.5  # pixels of blur before that: JPEG and resizing change the finest detail
SHARPNESS = 0.5  # pixels of blur between a resized image and its original
NOISE = 3.0  # grey levels: what compression adds
SHIFTS = [(down, across) for down in range(3) for across in range(3)]  # from -1 to 1 pixel
ROUGHLY_NEAR, NEAR = 0.3, 0.075  # the largest distance of a pair, before and after sharpness is compared
MOST_GAIN = 1.3
LEAST_SIDE = 8  # pixels of a thumbnail; smaller ones do not tell images apart
SAME_SHAPE = 0.05  # the largest difference of the logarithms of two ratios of sides
SAME_COLOUR = 25.0  # grey levels between red and green, or yellow and blue

Pair = tuple[int, int, float]


def find_near_pairs(probes: Probes, rows: np.ndarray) -> list[Pair]:
    """The pairs of nearly equal images and their distances, the nearest first.

    Args:
        rows: of the images to compare, ascending; none may be constant or have the same pixels as another.
    """
    if min(probes.thumbnails.shape[1:]) < LEAST_SIDE or len(rows) < 2:
        return []
    red, green, blue = probes.colours[rows].T
    shapes = np.log(probes.sizes[rows, 1] / probes.sizes[rows, 0]) / SAME_SHAPE
    # A pair differs by at most 1 in each of these.
    traits = np.stack((shapes, (red - green) / SAME_COLOUR, ((red + green) / 2 - blue) / SAME_COLOUR), 1)
    candidates = rows[_find_candidates(describe_images(probes.thumbnails, rows), traits)]

    def measure(start: int) -> np.ndarray:
        first, second = candidates[start : start + PAIRS].T
        return measure_distances(probes.thumbnails[first], probes.thumbnails[second])

    # numpy and scipy release Python's lock while they compute.
    with ThreadPoolExecutor(count_cores()) as threads:
        distances = np.concatenate([*threads.map(measure, range(0, len(candidates), PAIRS)), np.empty(0)])
    found = [
        (int(candidates[at, 0]), int(candidates[at, 1]), float(distances[at]))
        for at in np.flatnonzero(distances <= NEAR)
    ]
    return sorted(found, key=lambda pair: (pair[2], pair[1], pair[0]))


def describe_images(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Coarse descriptions: vectors of length `SCALE` whose products are correlations, float32 (n, GRID²).

    They do not change with brightness and contrast nor, if the border is plain, with a shift.
    """
    height, width = thumbnails.shape[1:]
    described = np.empty((len(rows), GRID * GRID), np.float32)
    steps = (np.arange(GRID) + 0.5) / GRID
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        grey = thumbnails[rows[part]].astype(np.float32)
        blurred = _blur(grey, BLUR)
        down, across = _locate_centres(grey)
        ys = np.clip(steps * height - 0.5 + down[:, None], 0, height - 1)
        xs = np.clip(steps * width - 0.5 + across[:, None], 0, width - 1)
        found = _interpolate(blurred, ys, xs).reshape(-1, GRID * GRID)
        found -= found.mean(1, keepdims=True)
        described[part] = np.rint(SCALE * found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6))
    return described


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, sigma, sigma), mode="nearest")


def _locate_centres(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre of what stands out from the border, in pixels below and to the right of the image's middle."""
    border = np.concatenate((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)
    background = np.median(border, 1)
    plain = (np.abs(border - background[:, None]) <= 16).mean(1)
    weights = np.abs(grey - background[:, None, None])
    total = np.maximum(weights.sum((1, 2)), 1e-6)
    # If less than half of the border is plain, the middle is the centre; up to three quarters, in part.
    offsets = []
    for axis in (1, 2):
        size = grey.shape[axis]
        places = np.arange(size) - (size - 1) / 2
        centre = (weights.sum(3 - axis) * places).sum(1) / total
        offsets.append(np.clip(centre, -size / 4, size / 4) * np.clip((plain - 0.5) / 0.25, 0, 1))
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


def _find_candidates(described: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """Pairs of places with alike descriptions, the first less than the second: (m, 2)."""
    count, least = len(described), _choose_least_product(described)
    parts = []
    for start in range(0, count, BLOCK):
        block = described[start : start + BLOCK]
        for left in range(start, count, BLOCK * 8):
            alike = block @ described[left : left + BLOCK * 8].T
            places = np.flatnonzero(alike > least)
            first, second = np.divmod(places, alike.shape[1])
            pairs = np.stack((first + start, second + left, alike.ravel()[places].astype(np.int64)))
            fits = (np.abs(traits[pairs[0]] - traits[pairs[1]]) <= 1).all(1)
            parts.append(pairs[:, fits & (pairs[0] < pairs[1])])
    first, second, alike = np.concatenate(parts, 1)
    # Of the copies of an image, each is among the most alike of the other, in one direction at least.
    kept = _are_most_alike(first, second, alike) | _are_most_alike(second, first, alike)
    return np.stack((first[kept], second[kept]), 1)


def _choose_least_product(described: np.ndarray) -> float:
    """The least product of the descriptions of candidates."""
    some = described[np.unique(np.linspace(0, len(described) - 1, SAMPLED).astype(int))]
    products = (some @ some.T)[np.triu_indices(len(some), 1)]
    share = min(1.0, MEAN_CANDIDATES / len(described))
    return max(LEAST_ALIKE * SCALE**2, float(np.quantile(products, 1 - share)))


def _are_most_alike(ones: np.ndarray, others: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Of pairs of places (m,) and their likeness: whether each pair is among the most alike of its first place."""
    order = np.lexsort((others, -alike, ones))
    ranks = np.arange(len(order)) - np.searchsorted(ones[order], ones[order])
    found = np.zeros(len(order), bool)
    found[order] = ranks < MOST_CANDIDATES
    return found


def measure_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The distance of the images of each pair, uint8 (m, h, w) each: float32 (m,), 0 for equal, 1 for unrelated.

    It is the share of the deviation, beyond that of `NOISE`, that remains after one image is shifted by up to a pixel
    and fitted to the other's brightness and contrast, and the sharper one is blurred.
    """
    ones, others = first.astype(np.float32), second.astype(np.float32)
    distances, shifts = _align(_blur(ones, SMOOTH), _blur(others, SMOOTH))
    near = np.flatnonzero(distances <= ROUGHLY_NEAR)
    blurrier = math.hypot(SMOOTH, SHARPNESS)
    for one, other in ((SMOOTH, blurrier), (blurrier, SMOOTH)):
        found, _ = _align(_blur(ones[near], one), _blur(others[near], other), shifts[near])
        distances[near] = np.minimum(distances[near], found)
    return distances


def _align(first: np.ndarray, second: np.ndarray, shifts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The least distance of each pair (m, h, w) over all shifts, or that of given ones, and the number of its shift."""
    height, width = first.shape[1:]
    middle, energy = _centre(first[:, 1:-1, 1:-1])
    noise = NOISE**2 * middle.shape[1]
    best, chosen = np.ones(len(first), np.float32), np.zeros(len(first), np.int64)
    for number, (down, across) in enumerate(SHIFTS):
        at = np.arange(len(first)) if shifts is None else np.flatnonzero(shifts == number)
        part, other = _centre(second[at, down : height - 2 + down, across : width - 2 + across])
        one = energy[at]
        r = np.einsum("ij,ij->i", middle[at], part) / np.maximum(np.sqrt(one * other), 1e-6)
        remaining = 1 - r * np.abs(r)  # a negative has r < 0
        distance = np.sqrt(np.clip(remaining - noise / np.maximum(np.minimum(one, other), 1e-6), 0, 1))
        gain = np.sqrt(one / np.maximum(other, 1e-6))
        distance[(gain > MOST_GAIN) | (gain < 1 / MOST_GAIN)] = 1
        is_better = distance < best[at]
        best[at[is_better]], chosen[at[is_better]] = distance[is_better], number
    return best, chosen


def _centre(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of images less their mean, (m, n), and the sum of their squares, (m,)."""
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    flat = flat - flat.mean(1, keepdims=True)
    return flat, np.einsum("ij,ij->i", flat, flat)
