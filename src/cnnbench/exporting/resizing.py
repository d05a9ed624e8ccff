"""The resize of `data.files.fitting`, as arithmetic that an exported network can contain.

Pillow resizes one axis after the other: each pixel of the result is a weighted sum of pixels, with weights that are
integers over 2^22, and is rounded to 8 bits. Two products with matrices of these integers give the same result,
because float64 represents every sum exactly.
"""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnbench.data.files.fitting import Decoding, fit

SCALE = 2.0**22  # of the weights: PRECISION_BITS of Pillow's Resample.c
# Heights and widths of test images, relative to those of the result. Both orders of the two axes occur.
TRIED = ((1.0, 2.0), (3.3, 1.2), (0.4, 1.7), (2.0, 5.1), (5.2, 0.6))


class Fit(nn.Module):
    """Resize images to the size of the network: `fit` of `data.files.fitting` for a batch.

    The operations do not depend on the size of the images, so that one graph serves all sizes.
    """

    background: Tensor

    def __init__(self, how: Decoding) -> None:
        super().__init__()
        self.how = how
        background = Image.new("RGB", (1, 1), how.background).convert("RGB" if how.channels == 3 else "L")
        colour = torch.tensor(background.getpixel((0, 0)), dtype=torch.float64)
        self.register_buffer("background", colour.view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Resize uint8 (N, C, h, w) to float32 (N, C, H, W) with whole numbers."""
        _, tall, wide = self.how.shape
        fits = (images.shape[2] == tall) & (images.shape[3] == wide)
        return torch.cond(fits, self._take, self._resize, (images,))

    def _take(self, images: Tensor) -> Tensor:
        """Images of the right size; the indices tell the tracer their size."""
        _, tall, wide = self.how.shape
        return images.float().index_select(2, torch.arange(tall)).index_select(3, torch.arange(wide))

    def _resize(self, images: Tensor) -> Tensor:
        _, tall, wide = self.how.shape
        height, width = (torch.full((), side, dtype=torch.int64) for side in images.shape[2:])
        # The part of the image that is used, and the part of the result that is filled.
        used_height, used_width = height, width
        filled_height, filled_width = torch.full((), tall), torch.full((), wide)
        if self.how.resize == "crop":
            used_height = torch.minimum(height, _scale_side(tall, width, wide))
            used_width = torch.minimum(width, _scale_side(wide, height, tall))
        elif self.how.resize == "pad":
            filled_height = torch.minimum(filled_height, _scale_side(height, torch.full((), wide), width))
            filled_width = torch.minimum(filled_width, _scale_side(width, torch.full((), tall), height))
        across, in_row = _weigh(images.shape[3], width, used_width, wide, filled_width)
        down, in_column = _weigh(images.shape[2], height, used_height, tall, filled_height)
        # Because of the rounding between the axes, their order matters; the rule is Pillow's, from version 13 on.
        is_tall = (used_height > filled_height) & (used_height - filled_height > 2 * (used_width - filled_width))
        pixels = images.double()
        result = torch.where(
            is_tall, _round(_round(down @ pixels) @ across.T), _round(down @ _round(pixels @ across.T))
        )
        if self.how.resize == "pad":
            result = torch.where(in_column & in_row.T, result, self.background)
        return result.float()


def _scale_side(side: Tensor | int, size: Tensor, longest: Tensor | int) -> Tensor:
    """`_scale_side` of `data.files.fitting`."""
    return torch.clamp((2 * side * size + longest) // (2 * longest), min=1)


def _weigh(pixels: int, size: Tensor, used: Tensor, out: int, filled: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of each pixel in each pixel of the result, along one axis, as Pillow computes it.

    Args:
        pixels, size: the number of pixels, as a shape of the graph and as a tensor.
        used: the number of pixels in the middle that are resized.
        out: the number of pixels of the result.
        filled: the number of these in the middle that the resized image fills.

    Returns:
        The weights times `SCALE`, float64 (out, pixels), and whether each row belongs to the image, bool (out, 1).
    """
    at = torch.arange(pixels, dtype=torch.float64) - ((size - used) // 2)
    place = torch.arange(out, dtype=torch.float64).unsqueeze(1) - ((out - filled) // 2)
    scale = used.double() / filled.double()
    centre = (place + 0.5) * scale
    near = 1 - ((at - centre + 0.5) * (1 / torch.clamp(scale, min=1.0))).abs()
    weights = torch.where((at >= 0) & (at < used), torch.clamp(near, min=0.0), 0.0)
    is_inside = (place >= 0) & (place < filled)
    total = torch.where(is_inside, weights.sum(1, keepdim=True), 1.0)
    return torch.floor(weights / total * SCALE + 0.5), is_inside


def _round(sums: Tensor) -> Tensor:
    return torch.clamp(torch.floor(sums * (1 / SCALE) + 0.5), max=255.0)


def iterate_examples(how: Decoding) -> Iterator[tuple[Tensor, Tensor]]:
    """Noise of several sizes, and the same resized by `fit`; both uint8 (1, C, h, w)."""
    channels, *shape = how.shape
    random = np.random.default_rng(0)
    for scales in TRIED:
        height, width = (max(1, round(side * scale)) for side, scale in zip(shape, scales, strict=True))
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        resized = np.array(fit(Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels), how))
        yield _to_batch(pixels), _to_batch(resized.reshape(*shape, channels))


def is_exact(how: Decoding) -> bool:
    """Whether `Fit` gives the same pixels as `fit`; another version of Pillow may round differently."""
    return all(torch.equal(Fit(how)(images), resized.float()) for images, resized in iterate_examples(how))


def _to_batch(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
