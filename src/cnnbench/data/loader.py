"""Batches of a split, in an order that is a function of (seed, epoch), and weights of classes."""

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from cnnbench.data.dataset import Split
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.reproducibility import make_generator

GATHERED_PIXELS = 2**19


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`(images / 255 − mean) / std` as float32, of images as in `Split`; signals are not divided by 255.

    Args:
        mean, std: float32, (C,).
    """
    scale, shift = _compute_scale_and_shift(images.dim() - 2, mean, std)
    return images.to(torch.float32, copy=True).mul_(scale).sub_(shift)


def _compute_scale_and_shift(dimensions: int, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    # One product and one difference, instead of two quotients and a difference.
    largest = 255 if dimensions == 2 else 1
    per_channel = (-1, *[1] * dimensions)
    return (1 / (largest * std)).view(per_channel), (mean / std).view(per_channel)


class Change(Protocol):
    """Changes the images of a batch before they are normalised, as an `Augmentation` does."""

    @property
    def mixes(self) -> bool:
        """Whether each image needs the next one as a partner."""

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int, /) -> tuple[Tensor, Tensor]:
        """Pixels as stored, or float32, and labels; see `Augmentation`."""


def make_permutation(pixels: int) -> Tensor:
    """The permutation of `data.permute_pixels`, int64 (pixels,), a function of their number alone."""
    return torch.randperm(pixels, generator=make_generator(0, "permute_pixels", pixels))


class Batches:
    """A split served in batches of normalised images, on the device of its labels.

    Args:
        mean, std: per channel, as in `normalize`.
        shuffle_seed: of the order; None keeps that of the split.
        sampler: `uniform` or `balanced`, as in `order_epoch`; needs a seed.
        channels_last: the memory format of images; signals have none.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shuffle_seed: int | None = None,
        sampler: str = "uniform",
        channels_last: bool = False,
        augmentation: Change | None = None,
    ) -> None:
        self.split = split
        self.labels = split.labels
        self.device = split.labels.device
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.sampler = sampler
        self.augmentation = augmentation
        self.rank = ALONE
        dimensions = len(split.shape) - 1
        self.memory_format = torch.channels_last if channels_last and dimensions == 2 else torch.contiguous_format
        self.permutation: Tensor | None = None
        constants = (torch.tensor(values, dtype=torch.float32, device=self.device) for values in (mean, std))
        self.scale, self.shift = _compute_scale_and_shift(dimensions, *constants)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def with_permuted_pixels(self, wanted: bool = True) -> "Batches":
        """The same batches with the pixels of each channel shuffled by `make_permutation`, after the augmentation."""
        part = copy.copy(self)
        part.permutation = make_permutation(math.prod(self.split.shape[1:])).to(self.device) if wanted else None
        return part

    def permute(self, images: Tensor) -> Tensor:
        """The images (N, C, …) with their pixels permuted, if these batches permute them."""
        if self.permutation is None:
            return images
        return images.flatten(2).index_select(2, self.permutation.to(images.device)).view(images.shape)

    def for_rank(self, rank: Rank) -> "Batches":
        """A rank's part of each batch, which may be empty."""
        part = copy.copy(self)
        part.rank = rank
        return part

    def iterate_epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch: images float32 (N, C, H, W) or signals (N, C, L), and labels int64 (N,).

        If the augmentation mixes images, labels are float32 (N, K), the share of each class. The first `start` batches
        are left out; the others stay the same to the bit.
        """
        # Several batches are gathered at once and served as views: a tenth of the calls, and still small enough
        # for the processor's cache.
        several = max(1, GATHERED_PIXELS // (self.batch_size * math.prod(self.split.shape)))
        if self.shuffle_seed is None:
            order = torch.arange(len(self.labels), device=self.device)
        else:
            order = order_epoch(self.labels, self.sampler, self.shuffle_seed, number).to(self.device)
        # An image is mixed with the next one, the last with the first: so any image of the split can be a partner, the
        # loader has it anyway, and the borders between batches do not matter.
        partners = 1 if self.augmentation and self.augmentation.mixes else 0
        extended = torch.cat((order, order[:partners]))
        if self.rank.count > 1 and partners:
            several = 1  # the partner of the last image is in the next rank's part
        starts = range(0, len(order), self.batch_size)
        batches = [self.rank.take_part(at, min(at + self.batch_size, len(order))) for at in starts]
        # The group of batches in which `start` lies is gathered as a whole. The last bits of an augmented image depend
        # on its neighbours in memory, because vector instructions and the scalar ones for the rest round differently.
        first, skipped = divmod(start, several)
        stretches = [batches[at : at + several] for at in range(first * several, len(batches), several)]
        parts = [self._take(extended, stretch, partners) for stretch in stretches]
        for stretch, indices, images in zip(stretches, parts, self._gather(parts), strict=True):
            labels = self.labels.index_select(0, indices)
            if self.augmentation:
                images, labels = self.augmentation(images, labels, indices, number)
            images = self.permute(images).to(torch.float32).mul_(self.scale).sub_(self.shift)
            images = images.contiguous(memory_format=self.memory_format)
            sizes = [len(places) for places in stretch]
            yield from islice(zip(images.split(sizes), labels.split(sizes), strict=True), skipped, None)
            skipped = 0

    def _take(self, order: Tensor, stretch: Sequence[range], partners: int) -> Tensor:
        """The part of an epoch's order in these places, each followed by its partners."""
        if self.rank.count == 1:  # the places follow one another
            return order[stretch[0].start : stretch[-1].stop + partners]
        return torch.cat([order[places.start : places.stop + partners] for places in stretch])

    def _gather(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images or signals with each part's indices, on the device, as stored."""
        stored = self.split.stored
        if isinstance(stored, Tensor):
            for indices in parts:
                yield stored.index_select(0, self.split.locate_rows(indices))
            return
        for images in stored.stream([self.split.locate_rows(indices.cpu()).numpy() for indices in parts]):
            # The device computes while the images are copied.
            yield torch.from_numpy(images).to(self.device, non_blocking=True)


def order_epoch(labels: Tensor, sampler: str, seed: int, epoch: int) -> Tensor:
    """Order the images of an epoch: indices, a function of (labels, sampler, seed, epoch).

    Args:
        sampler: `uniform` takes every image once; `balanced` draws N times, with replacement, first one of the classes
            and then one of its images.
    """
    # Drawn on the CPU, so that every device has the same order.
    if sampler == "uniform":
        return torch.randperm(len(labels), generator=make_generator(seed, "shuffle", epoch))
    random = make_generator(seed, "balanced_sampler", epoch)
    by_class = torch.argsort(labels.cpu(), stable=True)
    _, counts = torch.unique(labels.cpu(), return_counts=True)
    firsts = counts.cumsum(0) - counts
    chosen = torch.randint(len(counts), (len(labels),), generator=random)
    # Doubles, because a float's 24 bits would never draw some images of a larger class.
    places = (torch.rand(len(labels), dtype=torch.float64, generator=random) * counts[chosen]).long()
    return by_class[firsts[chosen] + places]


def balance_weights(labels: Tensor, num_classes: int) -> tuple[float, ...]:
    """The weight of each class, n / (K · n_c), so that all count as if they were equally large.

    K is the number of classes that have images; the others have weight 0.
    """
    counts = labels.bincount(minlength=num_classes)
    present = int((counts > 0).sum())
    return tuple(len(labels) / (present * count) if count else 0.0 for count in counts.tolist())
