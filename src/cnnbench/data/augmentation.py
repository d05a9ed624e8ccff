"""Random augmentation of training images: a batch at a time, on their device, before normalisation.

What happens to an image is a function of (seed, epoch, its index in the split), by the numbers of `keyed_numbers.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.data.keyed_numbers import Drawn, draw

# Drawn numbers go only through sums, products, quotients and square roots, which IEEE 754 fixes to the bit, and through
# tables of this many entries: torch's own sine or logarithm may round the last bit differently in the body of a vector
# than at its end, and so depend on an image's place in its batch. A rotation by up to 10 degrees is drawn to 0.005.
STEPS = 4096
ERASED_RATIO = 3.3  # the highest ratio of the sides of an erased box, arXiv:1708.04896
# torch splits a larger operation over threads; with images as small as MNIST's, waiting for them takes longer than the
# work.
SPLIT_OVER_THREADS = 2**15


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to its images; `config/data.py` documents the options, with their values for off.

    Geometry comes first, in one interpolation: flip, then rotation, shear and scale about the centre, then shift and
    crop; pixels from outside the image are black. Then come brightness and contrast, erasing, and mixing: mixup
    (arXiv:1710.09412) or cutmix (arXiv:1905.04899), or with both, one of them for each image, by a fair coin.

    Args:
        seed: of the random parameters.
        num_classes: columns of the labels of mixed images.
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
        """Augment the images of a batch for one epoch.

        An image's partner in mixing is the next one in the epoch's order (the first one for the last), augmented with
        that one's parameters.

        Args:
            images: uint8 (N, C, H, W), in the epoch's order; if it `mixes`, (N + 1, C, H, W), the last one only as a
                partner.
            labels, indices: int64, (N,) or (N + 1,); an index is an image's place in its split.

        Returns:
            Pixels 0…255, float32 (N, C, H, W), and the labels (N,) or, if it `mixes`, float32 (N, K) shares of classes.
        """
        drawn = draw(indices, self.seed, epoch)
        pixels = self._transform(images, drawn)
        return self._mix(pixels, labels, drawn) if self.mixes else (pixels, labels)

    def _transform(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Augment each image by itself, (N, C, H, W)."""
        affine = self.rotate or self.shift or self.shear or tuple(self.scale) != (1, 1)
        # A shift by whole pixels stays exact without interpolation.
        mode = "bilinear" if affine else "nearest"
        moves = affine or self.flip or self.crop
        height, width = images.shape[-2:]
        across, down = compute_grid(self._draw_maps(drawn, height, width), height, width) if moves else (None, None)
        factor, offset = self._draw_colours(drawn, images) if self.brightness or self.contrast else (None, None)
        rows, columns = self._draw_boxes(drawn, height, width) if self.erase else (None, None)
        changed = torch.empty_like(images, dtype=torch.float32)
        for part in _cut_batch(images):
            pixels = images[part].float()
            if across is not None and down is not None:
                grid = (across[part] + down[part]).permute(0, 2, 3, 1)
                pixels = F.grid_sample(pixels, grid, mode=mode, padding_mode="zeros", align_corners=False)
            if factor is not None and offset is not None:
                pixels.mul_(factor[part]).add_(offset[part]).clamp_(0, 255)
            if rows is not None and columns is not None:
                pixels.masked_fill_(rows[part] & columns[part], 0)
            changed[part] = pixels
        return changed

    def _draw_maps(self, drawn: Drawn, height: int, width: int) -> Tensor:
        """Where each pixel comes from, for `compute_grid`: a flip, then rotation, scale and shear, then a shift.

        The matrix is the inverse that torchvision's `affine` uses; angles turn clockwise.
        """
        cosine, sine = self._look_up(self._turns, drawn["rotate"]).unbind(-1)
        slant = self._look_up(self._slants, drawn["shear"])
        size = self.scale[0] + drawn["scale"] * (self.scale[1] - self.scale[0])
        x, y = self._draw_offset(drawn, "x", width), self._draw_offset(drawn, "y", height)
        # A mirrored image is read from right to left.
        direction = 1 - 2 * (drawn["flip"] < self.flip).float()
        across = (cosine - sine * slant) / size * direction, (cosine * slant + sine) / size * direction
        down = -sine / size, cosine / size
        rows = [torch.stack((a, b, a * x + b * y), -1) for a, b in (across, down)]
        return torch.stack(rows, -2)

    def _draw_offset(self, drawn: Drawn, axis: str, side: int) -> Tensor:
        cropped = (drawn[f"crop {axis}"] * (2 * self.crop + 1)).floor() - self.crop
        return cropped - (2 * drawn[f"shift {axis}"] - 1) * (self.shift * side)

    def _draw_colours(self, drawn: Drawn, images: Tensor) -> tuple[Tensor, Tensor]:
        """The factor and the offset of each image's pixels, (N, 1, 1, 1) each."""
        brightness = 1 + (2 * drawn["brightness"] - 1) * self.brightness
        contrast = 1 + (2 * drawn["contrast"] - 1) * self.contrast
        # Whole numbers have the same sum in any order.
        sums = torch.cat([images[part].flatten(1).sum(1, dtype=torch.int64) for part in _cut_batch(images)])
        mean = sums.float() / images[0].numel()
        return _broadcast(brightness * contrast), _broadcast(brightness * mean * (1 - contrast))

    def _draw_boxes(self, drawn: Drawn, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """The box that turns black in each image, as `mask_box` returns it; an empty one where none does."""
        low, high = self.erase_area
        area = (low + drawn["erase area"] * (high - low)) * (rows * columns)
        # The drawn height, limited so that a box of this area fits into the image.
        height = (area * self._look_up(self._ratios, drawn["erase ratio"])).sqrt()
        height = torch.maximum(height, area / columns).clamp_max(rows).round().clamp_min(1)
        width = (area / height).round().clamp(1, columns)
        top = (drawn["erase y"] * (rows - height + 1)).floor()
        left = (drawn["erase x"] * (columns - width + 1)).floor()
        height = height * (drawn["erase"] < self.erase)
        return mask_box(top, top + height, left, left + width, rows, columns)

    def _mix(self, pixels: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Mix each image but the last with the next one; also return its shares of the classes, (N, K)."""
        drawn = {purpose: numbers[:-1] for purpose, numbers in drawn.items()}
        weight = self._look_up(self._get_weights(self.mixup), drawn["mixup"])
        kept = self._look_up(self._get_weights(self.cutmix), drawn["cutmix"])
        if self.mixup and self.cutmix:
            cuts = drawn["mixup or cutmix"] < 0.5
            weight, kept = torch.where(cuts, 1.0, weight), torch.where(cuts, kept, 1.0)
        height, width = pixels.shape[-2:]
        side = (1 - kept).sqrt()
        top, bottom = _place_span(drawn["cutmix y"], side, height)
        left, right = _place_span(drawn["cutmix x"], side, width)
        # The border may cut off a part of the box, and the shares count what remains.
        share = (weight * (1 - (bottom - top) * (right - left) / (height * width)))[:, None]
        classes = F.one_hot(labels, self.num_classes).float()
        weight = _broadcast(weight)
        rows, columns = mask_box(top, bottom, left, right, height, width)
        first, second = pixels[:-1], pixels[1:]
        mixed = torch.empty_like(first)
        for part in _cut_batch(mixed):
            own = ~(rows[part] & columns[part]) * weight[part]
            mixed[part] = first[part] * own + second[part] * (1 - own)
        return mixed, share * classes[:-1] + (1 - share) * classes[1:]

    def _look_up(self, table: Tensor, drawn: Tensor) -> Tensor:
        return table.index_select(0, (drawn * STEPS).long())

    @cached_property
    def _turns(self) -> Tensor:
        angles = np.radians(self.rotate) * (2 * _spread_evenly() - 1)
        return self._make_table(np.stack([np.cos(angles), np.sin(angles)], 1))

    @cached_property
    def _slants(self) -> Tensor:
        return self._make_table(np.tan(np.radians(self.shear) * (2 * _spread_evenly() - 1)))

    @cached_property
    def _ratios(self) -> Tensor:
        return self._make_table(ERASED_RATIO ** (2 * _spread_evenly() - 1))

    @cached_property
    def _betas(self) -> dict[float, Tensor]:
        from scipy.special import betaincinv  # takes a fifth of a second, and only mixing needs it

        return {a: self._make_table(betaincinv(a, a, _spread_evenly())) for a in (self.mixup, self.cutmix) if a > 0}

    def _get_weights(self, alpha: float) -> Tensor:
        return self._betas[alpha] if alpha > 0 else torch.ones(STEPS, device=self.device)

    def _make_table(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def compute_grid(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel is read from, as `grid_sample` counts: from −1 to 1, an image's outer borders.

    Args:
        maps: (N, 2, 3), from a pixel's x and y, counted from the image's centre, to the x and y it is read from.

    Returns:
        Two terms whose sum is x and y for each pixel: (N, 2, 1, W) and (N, 2, H, 1).
    """
    # Not by `affine_grid`: its matrix product is slower, and adds in an order that depends on the number of images.
    x = torch.arange(width, device=maps.device) - (width - 1) / 2
    y = torch.arange(height, device=maps.device) - (height - 1) / 2
    # Plain numbers, because copying a tensor of them to a GPU would wait for it.
    maps = torch.stack((maps[:, 0] * (2 / width), maps[:, 1] * (2 / height)), 1)
    a, b, c = maps.unsqueeze(-2).unbind(-1)
    # x and y apart: tensors of half the size keep an operation within one thread.
    across = torch.stack([a[:, axis] * x for axis in (0, 1)], 1)
    down = torch.stack([b[:, axis] * y + c[:, axis] for axis in (0, 1)], 1)
    return across.unsqueeze(-2), down.unsqueeze(-1)


def mask_box(
    top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Which rows and which columns of each image a box covers, bool (N, 1, H, 1) and (N, 1, 1, W).

    Args:
        top, bottom, left, right: (N,), in pixels; bottom and right are outside.
    """
    y = torch.arange(height, device=top.device).view(-1, 1)
    x = torch.arange(width, device=top.device)
    rows = (y >= _broadcast(top)) & (y < _broadcast(bottom))
    return rows, (x >= _broadcast(left)) & (x < _broadcast(right))


def _cut_batch(images: Tensor) -> Iterator[slice]:
    """Cut a batch into parts that one thread handles; other devices take the whole batch at once."""
    # grid_sample counts four numbers for each pixel.
    size = max(1, SPLIT_OVER_THREADS // (4 * images[0, 0].numel())) if images.device.type == "cpu" else len(images)
    for start in range(0, len(images), size):
        yield slice(start, start + size)


def _place_span(drawn: Tensor, share: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The ends, in pixels, of a span around a random place, cut off at the image's border."""
    centre, half = drawn * side, share * (side / 2)
    return (centre - half).round().clamp(0, side), (centre + half).round().clamp(0, side)


def _broadcast(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _spread_evenly() -> np.ndarray:
    return (np.arange(STEPS) + 0.5) / STEPS
