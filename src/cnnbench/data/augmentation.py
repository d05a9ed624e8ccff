"""Training images changed at random: a batch at a time, on their device, before they are normalised.

What happens to an image is a function of (seed, epoch, its index in the split). Every number is drawn by hashing these
with SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014), so the size of a batch,
an image's place in it and what ran before have no part in it. What is drawn then goes through sums, products, quotients
and square roots alone, which IEEE 754 fixes to the bit, and through tables: torch's own sine or logarithm may give
another last bit in the body of a vector than at its end, that is, with an image's place in its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.reproducibility import key

Draw = Callable[[str], Tensor]  # a purpose → a number from 0 to 1 for each image, (N,)

STEPS = 4096  # entries of a table: a rotation by up to 10 degrees is drawn to 0.005
ERASED_RATIO = 3.3  # an erased box is at most this many times as high as wide, or as wide as high, arXiv:1708.04896


def uniform(indices: Tensor, seed: int, epoch: int, purpose: str) -> Tensor:
    """A number from 0 up to, not including, 1 for each index, the same on every device.

    Args:
        indices: int64, (N,).
        purpose: what the numbers are for, such as `"flip"`; two purposes never share a number.

    Returns:
        float32 (N,), multiples of 2⁻²⁴.
    """
    # torch has no unsigned 64-bit arithmetic, but products wrap alike; only right shifts need the sign cut off.
    mixed = indices * -0x61C8864680B583EB + key(seed, f"augment {purpose}", epoch)
    mixed = (mixed ^ _shifted(mixed, 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ _shifted(mixed, 27)) * -0x6B2FB644ECCEEE15
    return _shifted(mixed ^ _shifted(mixed, 31), 40).float() * 2**-24


def _shifted(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & (2 ** (64 - bits) - 1)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to its images, in this order; each knob is off at 0, `scale` at [1, 1].

    Args:
        seed: the run's.
        num_classes: how many columns the labels of mixed images have.
        device: where the images are.
        flip: the share of images that are mirrored, left to right.
        crop: an image is shifted by whole pixels, up to this many each way, as a crop of the image with a black margin.
        rotate, shear: degrees, up to this many each way.
        shift: the share of the side, up to this much each way.
        scale: the lowest and the highest factor of size.
        brightness, contrast: factors of 1 ± this; contrast is about the mean of the image as it was.
        erase: the share of images of which a box turns black.
        erase_area: the lowest and the highest share of the image that the box covers.
        mixup: both parameters of the Beta distribution of an image's weight beside its partner's (arXiv:1710.09412).
        cutmix: likewise, of the area an image keeps outside a box of its partner (arXiv:1905.04899). With both, each
            image takes one of them, chosen by a fair coin.
    """

    seed: int
    num_classes: int
    device: torch.device
    flip: float
    crop: int
    rotate: float
    shift: float
    scale: Sequence[float]
    shear: float
    erase: float
    erase_area: Sequence[float]
    brightness: float
    contrast: float
    mixup: float
    cutmix: float

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with a partner."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The images as one epoch sees them.

        An image's partner is the one after it in the epoch's order, and the first one is the last one's: an image, as
        changed as any other, that a loader has at hand and that does not depend on where batches end.

        Args:
            images: uint8, (N, C, H, W), one after another in the epoch's order; where `mixes`, (N + 1, C, H, W): the
                last is there as a partner only.
            labels, indices: int64, (N,) or (N + 1,); an index is an image's place in its split.

        Returns:
            Pixels 0…255, float32 (N, C, H, W), and the labels (N,) or, where `mixes`, float32 (N, K) shares of classes.
        """
        draw = partial(uniform, indices, self.seed, epoch)
        pixels = self._moved(images.float(), draw)
        pixels = self._coloured(pixels, images, draw)
        pixels = self._erased(pixels, draw)
        return self._mixed(pixels, labels, draw) if self.mixes else (pixels, labels)

    def _moved(self, pixels: Tensor, draw: Draw) -> Tensor:
        affine = self.rotate or self.shift or self.shear or tuple(self.scale) != (1, 1)
        if not (affine or self.flip or self.crop):
            return pixels
        # Whole pixels need no interpolation, and stay exact.
        return warp(pixels, self._maps(draw, *pixels.shape[-2:]), "bilinear" if affine else "nearest")

    def _maps(self, draw: Draw, height: int, width: int) -> Tensor:
        """Where each pixel comes from, as `warp` takes it: out of a flip, then rotation, scale and shear, then a shift.

        The matrix is the inverse that torchvision's `affine` uses; angles turn clockwise.
        """
        cosine, sine = self._looked_up(self._turns, draw("rotate")).unbind(-1)
        slant = self._looked_up(self._slants, draw("shear"))
        size = self.scale[0] + draw("scale") * (self.scale[1] - self.scale[0])
        x = self._offset(draw, "x", width)
        y = self._offset(draw, "y", height)
        # A mirrored image is read from right to left.
        direction = 1 - 2 * (draw("flip") < self.flip).float()
        across = (cosine - sine * slant) / size * direction, (cosine * slant + sine) / size * direction
        down = -sine / size, cosine / size
        rows = [torch.stack((a, b, a * x + b * y), -1) for a, b in (across, down)]
        return torch.stack(rows, -2)

    def _offset(self, draw: Draw, axis: str, side: int) -> Tensor:
        cropped = (draw(f"crop {axis}") * (2 * self.crop + 1)).floor() - self.crop
        return cropped - (2 * draw(f"shift {axis}") - 1) * (self.shift * side)

    def _coloured(self, pixels: Tensor, images: Tensor, draw: Draw) -> Tensor:
        if not (self.brightness or self.contrast):
            return pixels
        brightness = 1 + (2 * draw("brightness") - 1) * self.brightness
        contrast = 1 + (2 * draw("contrast") - 1) * self.contrast
        # Whole numbers have the same sum in any order.
        mean = images.flatten(1).sum(1, dtype=torch.int64).float() / images[0].numel()
        factor, offset = brightness * contrast, brightness * mean * (1 - contrast)
        return pixels.mul_(_per_image(factor)).add_(_per_image(offset)).clamp_(0, 255)

    def _erased(self, pixels: Tensor, draw: Draw) -> Tensor:
        if not self.erase:
            return pixels
        rows, columns = pixels.shape[-2:]
        low, high = self.erase_area
        area = (low + draw("erased area") * (high - low)) * (rows * columns)
        high_by_wide = self._looked_up(self._ratios, draw("erased ratio"))
        height = torch.minimum(torch.maximum((area * high_by_wide).sqrt(), area / columns), area.new_tensor(rows))
        height = height.round().clamp_min(1)
        width = (area / height).round().clamp(1, columns)
        top = (draw("erased top") * (rows - height + 1)).floor()
        left = (draw("erased left") * (columns - width + 1)).floor()
        height = height * (draw("erase") < self.erase)
        return pixels.masked_fill_(box(top, top + height, left, left + width, rows, columns), 0)

    def _mixed(self, pixels: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        rows, columns = pixels.shape[-2:]
        weight = self._looked_up(self._weights(self.mixup), draw("mixup"))
        kept = self._looked_up(self._weights(self.cutmix), draw("cutmix"))
        cuts = torch.full_like(weight, self.cutmix > 0, dtype=torch.bool)
        if self.mixup and self.cutmix:
            cuts = draw("mixup or cutmix") < 0.5
        weight = torch.where(cuts, 1.0, weight)
        side = torch.where(cuts, 1 - kept, 0.0).sqrt()
        top, bottom = _span(draw("cutmix y"), side, rows)
        left, right = _span(draw("cutmix x"), side, columns)
        # The box may be cut off by the border: what counts is what is seen.
        share = weight * (1 - (bottom - top) * (right - left) / (rows * columns))
        weights = (_per_image(weight) * ~box(top, bottom, left, right, rows, columns))[:-1]
        classes = torch.eye(self.num_classes, device=labels.device)[labels]
        share = share[:-1].unsqueeze(1)
        mixed = pixels[:-1] * weights + pixels[1:] * (1 - weights)
        return mixed, share * classes[:-1] + (1 - share) * classes[1:]

    def _looked_up(self, table: Tensor, drawn: Tensor) -> Tensor:
        return table.index_select(0, (drawn * STEPS).long())

    @cached_property
    def _turns(self) -> Tensor:
        angles = np.radians(self.rotate) * (2 * _evenly() - 1)
        return self._table(np.stack([np.cos(angles), np.sin(angles)], 1))

    @cached_property
    def _slants(self) -> Tensor:
        return self._table(np.tan(np.radians(self.shear) * (2 * _evenly() - 1)))

    @cached_property
    def _ratios(self) -> Tensor:
        return self._table(ERASED_RATIO ** (2 * _evenly() - 1))

    @cached_property
    def _betas(self) -> dict[float, Tensor]:
        from scipy.special import betaincinv  # a fifth of a second, and only mixing needs it

        return {a: self._table(betaincinv(a, a, _evenly())) for a in (self.mixup, self.cutmix) if a > 0}

    def _weights(self, alpha: float) -> Tensor:
        return self._betas[alpha] if alpha > 0 else torch.ones(STEPS, device=self.device)

    def _table(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def warp(pixels: Tensor, maps: Tensor, mode: str) -> Tensor:
    """Read every pixel from another place; outside the image is black.

    Args:
        pixels: float32, (N, C, H, W).
        maps: (N, 2, 3); from a pixel's x and y, counted from the image's centre, to the x and y it is read from.
        mode: `bilinear` or `nearest`.
    """
    height, width = pixels.shape[-2:]
    x = torch.arange(width, device=pixels.device) - (width - 1) / 2
    y = torch.arange(height, device=pixels.device) - (height - 1) / 2
    # grid_sample counts from −1 to 1. Not by affine_grid: its matrix product is slower, and adds in an order that
    # depends on the number of images.
    maps = maps * maps.new_tensor([2 / width, 2 / height]).view(1, 2, 1)
    a, b, c = (maps[..., i, None, None] for i in range(3))
    grid = a * x.view(1, -1) + (b * y.view(-1, 1) + c)
    return F.grid_sample(pixels, grid.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)


def box(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie inside a box, bool (N, 1, H, W).

    Args:
        top, bottom, left, right: (N,), in pixels; the lower and right ends are outside.
    """
    y = torch.arange(height, device=top.device).view(-1, 1)
    x = torch.arange(width, device=top.device)
    rows = (y >= _per_image(top)) & (y < _per_image(bottom))
    return rows & (x >= _per_image(left)) & (x < _per_image(right))


def _span(drawn: Tensor, share: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both ends of a stretch about a place in the image that was drawn, as far as it lies inside, in pixels."""
    centre, half = drawn * side, share * (side / 2)
    return (centre - half).round().clamp(0, side), (centre + half).round().clamp(0, side)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _evenly() -> np.ndarray:
    return (np.arange(STEPS) + 0.5) / STEPS
