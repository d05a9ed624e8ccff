"""Datasets: splits and their metadata."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.seeds import Fold
from cnnbench.data.files.listing import Paths
from cnnbench.data.hashing import hash_rows

if TYPE_CHECKING:  # it loads Pillow, which most datasets do not need
    from cnnbench.data.files.decoding import ImageFiles

CHUNK_VALUES = 2**20  # pixels or samples processed together: few enough to copy as float64
FILE, VALUES, PLACE = range(3)  # columns of `Split.marks`


@dataclass(frozen=True)
class DatasetInfo:
    """What a model needs to know about images or signals."""

    name: str
    in_channels: int  # 1 for greyscale, 3 for colour; of a signal, the values in a sample
    image_size: int | tuple[int, int]  # height and width, one number if they are equal; of a signal, its samples
    class_names: tuple[str, ...]  # in the order of the labels
    dimensions: int = 2  # of images (C, H, W); 1 for signals (C, L)

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of an image, (L,) of a signal."""
        return (self.image_size,) * self.dimensions if isinstance(self.image_size, int) else tuple(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image (C, H, W), or of one signal (C, L)."""
        return (self.in_channels, *self.size)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def to_image_size(height: int, width: int) -> int | tuple[int, int]:
    """A size in the form of `DatasetInfo.image_size`."""
    return height if height == width else (height, width)


@dataclass(frozen=True)
class Split:
    """Images or signals, and their labels."""

    stored: "Tensor | ImageFiles"  # images, uint8 (N, C, H, W), or their files; signals, float32 (N, C, L)
    labels: Tensor  # int64 (n,)
    # int64 (n,), which of the stored images these are; None for all. Splits share one store, so that cutting them
    # copies nothing.
    rows: Tensor | None = None
    # int64 (n, 3), of each image the hash of its file, the hash of its stored values (equal without a file), and its
    # place in the source, as `Source.paths` counts.
    marks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> "Split":
        marks = None if self.marks is None else self.marks[indices]
        return Split(self.stored, self.labels[indices], self.locate_rows(indices), marks)

    @property
    def images(self) -> Tensor:
        """The images or signals as one tensor; a copy, unless the split is all that is stored."""
        if not isinstance(self.stored, Tensor):
            return torch.cat([*self.iterate_chunks()])
        return self.stored if self.rows is None else self.stored.index_select(0, self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image or signal."""
        return tuple(self.stored.shape[1:])

    def locate_rows(self, indices: Tensor) -> Tensor:
        """Where the images with these indices are stored."""
        return indices if self.rows is None else self.rows[indices]

    def iterate_chunks(self) -> Iterable[Tensor]:
        """Iterate over the images or signals in order, several at a time."""
        several = max(1, CHUNK_VALUES // math.prod(self.shape))
        rows = self.locate_rows(torch.arange(len(self))).split(several)
        if not isinstance(self.stored, Tensor):
            return map(torch.from_numpy, self.stored.stream([some.numpy() for some in rows]))
        if self.rows is None:
            return self.stored.split(several)
        return (self.stored.index_select(0, some) for some in rows)

    def to(self, device: torch.device) -> "Split":
        """The same split on another device; of files, only the labels move."""
        if not isinstance(self.stored, Tensor):
            return replace(self, labels=self.labels.to(device))
        if self.stored.device == device:
            return self
        return Split(self.images.to(device), self.labels.to(device), marks=self.marks)


def add_marks(split: Split) -> Split:
    """The split with marks, computed from its values if it has none."""
    if split.marks is not None:
        return split
    hashes = torch.from_numpy(np.concatenate([hash_rows(chunk.numpy()) for chunk in split.iterate_chunks()]))
    return replace(split, marks=torch.stack((hashes, hashes, torch.arange(len(hashes))), 1))


@dataclass(frozen=True)
class Source:
    """A dataset as published: nothing is split or scaled."""

    info: DatasetInfo
    train: Split
    test: Split | None  # if None, `prepare` cuts it from the training images; empty if it must not be read
    val: Split | None = None  # likewise
    skipped: tuple[tuple[str, str], ...] = ()  # the path of each file that could not be read, and why
    paths: Paths | None = None  # the file of each image, by its place; None without files
    notes: tuple[str, ...] = ()  # what a reader of the results must know about the data

    @property
    def splits(self) -> dict[str, Split]:
        """The existing splits by name, `train` first."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def add_marks(self) -> "Source":
        """The source with marks on every split."""
        test, val = (None if split is None else add_marks(split) for split in (self.test, self.val))
        return replace(self, train=add_marks(self.train), test=test, val=val)


@dataclass(frozen=True)
class Exclusion:
    """What `data.exclude` left out: the list's content, and the number of images in each split."""

    content: bytes
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Dataset:
    """A dataset ready for training; for other fields see `Source`."""

    info: DatasetInfo
    train: Split
    val: Split | None
    test: Split
    mean: tuple[float, ...]  # per channel, of pixels scaled to 0…1, for `normalize`
    std: tuple[float, ...]
    pool: str = ""  # a hash of what training and validation are drawn from, the same for every seed
    skipped: tuple[tuple[str, str], ...] = ()
    paths: Paths | None = None
    notes: tuple[str, ...] = ()
    source_shape: tuple[int, ...] = ()  # of an image or signal before resizing
    exclusion: Exclusion | None = None
    listed: Tensor | None = None  # int64 (n, 3), the marks of images that the caller listed
    near_tests: int | None = None  # test images that are nearly equal to another image; None if not checked
    fold: Fold | None = None  # that `test` is, of the training images; None if it is the test split

    def describe(self) -> str:
        """Classes, images of each split, size and channels in one line."""
        counts = {"training": len(self.train), "validation": len(self.val or ()), "test": len(self.test)}
        splits = ", ".join(f"{count:,} {name}" if count else f"no {name}" for name, count in counts.items())
        channels = _count(self.info.in_channels, "channel")
        if self.info.dimensions == 1:
            size = f"signals of {_count(self.info.size[0], 'sample')}"
        else:
            size, source = ("×".join(map(str, shape[1:])) for shape in (self.info.input_shape, self.source_shape))
            size = f"images of {size}" if source in ("", size) else f"images of {source}, resized to {size}"
        excluded = [f"{count:,} {name}" for name, count in (self.exclusion.counts if self.exclusion else {}).items()]
        without = f"; data.exclude leaves out {', '.join(excluded)}" if excluded else ""
        held_out = f"; the test images are fold {self.fold.number} of {self.fold.total}" if self.fold else ""
        classes = _count(self.info.num_classes, "class")
        return f"{self.info.name}: {classes}, {splits} {size}, {channels}{without}{held_out}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
