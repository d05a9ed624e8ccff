"""Random numbers for augmentation, each a function of (seed, epoch, image index, purpose).

SplitMix64 hashes these (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014), so that the
size of a batch, an image's place in it and what ran before do not matter.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnbench.reproducibility import derive_key

Drawn = Mapping[str, Tensor]  # by purpose, a number from 0 to 1 for each image, float32 (N,)

PURPOSES = (
    *("flip", "crop x", "crop y", "rotate", "shift x", "shift y", "scale", "shear", "brightness", "contrast"),
    *("erase", "erase area", "erase ratio", "erase x", "erase y"),
    *("mixup", "cutmix", "cutmix x", "cutmix y", "mixup or cutmix"),
)
GAMMA = -0x61C8864680B583EB  # SplitMix64's increment, as a signed number


def draw(indices: Tensor, seed: int, epoch: int) -> Drawn:
    """A number in [0, 1) for each index, int64 (N,), and each of `PURPOSES`, the same on every device."""
    numbers = _to_numbers(_mix(indices * GAMMA + _make_keys(seed, epoch, indices.device)))
    return dict(zip(PURPOSES, numbers, strict=True))


@dataclass(frozen=True)
class KeyedNumbers:
    """The random numbers of a batch's images in an epoch, for any purpose."""

    indices: Tensor  # int64 (N,), of the images in their split
    seed: int
    epoch: int

    def __call__(self, purpose: str, *shape: int) -> Tensor:
        """Numbers in [0, 1), float32 (N, *shape); other purposes give independent ones."""
        key = derive_key(self.seed, f"own augmentation {purpose}", self.epoch)
        each = _mix(self.indices * GAMMA + key)
        count = math.prod(shape)
        several = each.unsqueeze(1) + torch.arange(count, device=each.device) * GAMMA
        return _to_numbers(_mix(several)).view(len(each), *shape)


def _mix(values: Tensor) -> Tensor:
    """Scramble int64 numbers: each bit of a result depends on all bits of its number."""
    # torch has no unsigned 64-bit arithmetic. Products wrap alike, with SplitMix64's constants as signed numbers; right
    # shifts must cut off the sign.
    mixed = (values ^ _shift_right(values, 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ _shift_right(mixed, 27)) * -0x6B2FB644ECCEEE15
    return mixed ^ _shift_right(mixed, 31)


def _to_numbers(mixed: Tensor) -> Tensor:
    # The top 24 bits are as many as a float32 holds exactly.
    return _shift_right(mixed, 40).float() * 2**-24


def _shift_right(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & (2 ** (64 - bits) - 1)


@functools.lru_cache(maxsize=4)
def _make_keys(seed: int, epoch: int, device: torch.device) -> Tensor:
    return torch.tensor([[derive_key(seed, f"augment {purpose}", epoch)] for purpose in PURPOSES], device=device)
