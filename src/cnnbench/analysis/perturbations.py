"""Changes of images and signals that leave their class as it is, each of a known strength, and what they do to answers.

They act on pixels from 0 to 255, or on the values of a signal, before normalisation. What comes in from outside is 0:
black, as in the background of most digits. A random change of an image depends on (seed, index of the image) alone, so
that each strength, each network and each batch size meets the same noise.

`KINDS` lists them all; a new one is a function and an entry there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.registry import describe_unknown
from cnnbench.reproducibility import make_generator

BRIGHTEST = 255.0


def shift(values: Tensor, *offsets: float) -> Tensor:
    """Move down and to the right by whole pixels, or along a signal by whole samples; 0 fills the gap."""
    pads = [amount for offset in reversed(offsets) for amount in (int(offset), -int(offset))]
    return F.pad(values, pads)


def rotate(values: Tensor, degrees: float) -> Tensor:
    """Turn counter-clockwise about the centre, with bilinear interpolation."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _resample(values, ((cosine, -sine), (sine, cosine)))


def rescale(values: Tensor, factor: float) -> Tensor:
    """Magnify about the centre, with bilinear interpolation; the image keeps its size."""
    return _resample(values, ((1 / factor, 0.0), (0.0, 1 / factor)))


def _resample(values: Tensor, matrix: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """Read each pixel at the matrix times its x and y, both counted from the centre in pixels."""
    height, width = values.shape[-2:]
    (a, b), (c, d) = matrix
    # grid_sample counts from −1 to 1 along both sides, whatever their lengths.
    theta = torch.tensor([[a, b * height / width, 0.0], [c * width / height, d, 0.0]], device=values.device)
    grid = F.affine_grid(theta.expand(len(values), 2, 3), list(values.shape), align_corners=False)
    return F.grid_sample(values.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def blur(values: Tensor, sigma: float) -> Tensor:
    """A Gaussian filter; the border is repeated outwards."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1, device=values.device) ** 2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).view(1, 1, -1, 1)
    # Each channel by itself: they go to the batch axis.
    pixels = F.pad(values.float().flatten(0, 1).unsqueeze(1), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(pixels, kernel), kernel.mT).view(values.shape)


def change_contrast(values: Tensor, factor: float) -> Tensor:
    """Move each pixel towards the mean of its image, or away from it; a factor of 1 changes nothing."""
    pixels = values.float()
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return (mean + factor * (pixels - mean)).clamp(0, BRIGHTEST)


def add_noise(values: Tensor, drawn: Tensor, strength: float) -> Tensor:
    """Add Gaussian noise.

    Args:
        drawn: standard normal, of the shape of the values.
        strength: its standard deviation as a share of white, or of the standard deviation of each signal.
    """
    if values.dim() == 4:
        return (values.float() + strength * BRIGHTEST * drawn).clamp(0, BRIGHTEST)
    return values + strength * values.std((1, 2), correction=0, keepdim=True) * drawn


def occlude(values: Tensor, drawn: Tensor, share: float) -> Tensor:
    """Cover a square of each image with black, anywhere inside.

    Args:
        drawn: (N, 2), from 0 to 1: the place of the square from top to bottom, and from left to right.
        share: the side of the square as a share of the image's shorter side.
    """
    height, width = values.shape[-2:]
    side = round(share * min(height, width))
    room = torch.tensor([height - side + 1, width - side + 1], device=values.device)
    top, left = (drawn * room).long().view(-1, 2, 1, 1, 1).unbind(1)
    rows = torch.arange(height, device=values.device).view(-1, 1)
    columns = torch.arange(width, device=values.device)
    return values.masked_fill((rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side), 0)


def _list_offsets(strength: float, dimensions: int) -> list[tuple[float, ...]]:
    """All shifts whose longest part, along any axis, is of a length."""
    length = int(strength)
    offsets = product(range(-length, length + 1), repeat=dimensions)
    return [offset for offset in offsets if max(map(abs, offset)) == length]


@dataclass(frozen=True)
class Kind:
    """A kind of change, and the strengths at which a network is measured.

    Attributes:
        change: from values, random numbers if any, and arguments to changed values.
        arguments: from a strength and the number of axes to the arguments of `change`, a tuple for each change.
        draw: the random numbers for one image or signal, from its shape and a generator.
    """

    unit: str  # of the strengths, in words
    neutral: float  # the strength that changes nothing
    strengths: Sequence[float]  # the others; one may mean several changes, such as a turn to either side
    change: Callable[..., Tensor]
    arguments: Callable[[float, int], Sequence[tuple[float, ...]]] = lambda strength, _: [(strength,)]
    draw: Callable[[Sequence[int], torch.Generator], Tensor] | None = None
    dimensions: tuple[int, ...] = (2,)  # of the data that it can change: 2 for images, 1 for signals


KINDS = {
    "shift": Kind("pixels", 0, (1, 2), shift, _list_offsets, dimensions=(1, 2)),
    "rotation": Kind("degrees", 0, (5, 10, 15, 20, 30, 45), rotate, lambda angle, _: [(-angle,), (angle,)]),
    "scale": Kind("times the size", 1, (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.4), rescale),
    "noise": Kind(
        "standard deviation",
        0,
        (0.05, 0.1, 0.2, 0.3, 0.5),
        add_noise,
        draw=lambda shape, source: torch.randn(*shape, generator=source),
        dimensions=(1, 2),
    ),
    "blur": Kind("pixels, standard deviation", 0, (0.5, 1, 1.5, 2, 3), blur),
    "contrast": Kind("times the contrast", 1, (0.8, 0.6, 0.4, 0.2, 0.1), change_contrast),
    "occlusion": Kind(
        "of the shorter side",
        0,
        (0.1, 0.2, 0.3, 0.4, 0.5),
        occlude,
        draw=lambda _, source: torch.rand(2, generator=source),
    ),
}


@dataclass(frozen=True)
class Case:
    """One change: what a network is measured under."""

    kind: str
    strength: float
    arguments: tuple[float, ...]

    def apply(self, values: Tensor, indices: Sequence[int], seed: int = 0) -> Tensor:
        """The changed images or signals.

        Args:
            values: pixels from 0 to 255, (N, C, H, W), or signals (N, C, L).
            indices: of the images, which with `seed` decide what is random.
        """
        kind = KINDS[self.kind]
        if kind.draw is None:
            return kind.change(values, *self.arguments)
        shape = values.shape[1:]
        drawn = torch.stack([kind.draw(shape, make_generator(seed, f"robustness {self.kind}", i)) for i in indices])
        return kind.change(values, drawn.to(values.device), *self.arguments)


def choose_kinds(names: Sequence[str], dimensions: int) -> list[str]:
    """The kinds to measure: of those named, or of all if none is, those that can change the data.

    Raises:
        ValueError: an unknown kind, or none that can change signals.
    """
    for name in names:
        if name not in KINDS:
            raise ValueError(describe_unknown("kind of change", name, KINDS))
    fitting = [name for name, kind in KINDS.items() if dimensions in kind.dimensions]
    chosen = [name for name in fitting if name in names or not names]
    if not chosen:
        given, able = ",".join(names), " or ".join(fitting)
        raise ValueError(f"--kind {given} changes images, and the run's data are signals: use {able}")
    return chosen


def list_cases(name: str, sizes: Sequence[int], max_shift: int | None = None) -> list[Case]:
    """All changes of a kind but the one that changes nothing, the weakest first.

    Args:
        sizes: (H, W) of the images, (L,) of the signals; shifts out of them are left out.
        max_shift: the longest shift, in pixels or samples along each axis; None keeps the kind's own.
    """
    kind, strengths = KINDS[name], KINDS[name].strengths
    if name == "shift":
        strengths = [s for s in (range(1, max_shift + 1) if max_shift else strengths) if s < min(sizes)]
    return [Case(name, strength, given) for strength in strengths for given in kind.arguments(strength, len(sizes))]


def measure_cases(
    predict: Callable[[Case | None], np.ndarray], labels: np.ndarray, cases: Sequence[Case]
) -> Iterator[tuple[Case, float, float]]:
    """Accuracy and consistency under each case; before them, those of each kind where it changes nothing.

    Consistency is the share of the images that get the same class as without the change.

    Args:
        predict: the class of each image, (N,), under a case, or unchanged under None.
        labels: (N,).
    """
    unchanged = predict(None)
    for kind in dict.fromkeys(case.kind for case in cases):
        yield Case(kind, KINDS[kind].neutral, ()), float((unchanged == labels).mean()), 1.0
    for case in cases:
        predictions = predict(case)
        yield case, float((predictions == labels).mean()), float((predictions == unchanged).mean())
