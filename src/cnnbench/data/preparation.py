"""Make a dataset for training from a source: split, resize and measure it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.config.seeds import Fold
from cnnbench.data.contents import digest, find_duplicates
from cnnbench.data.dataset import FILE, Dataset, DatasetInfo, Source, Split, to_image_size
from cnnbench.data.folds import hold_out
from cnnbench.data.memory import refuse_beyond_memory
from cnnbench.reproducibility import make_generator
from cnnbench.storage.text import format_path, join_some

SHOWN = 5  # classes in a note
LARGEST_CHUNK = 2**24  # pixels that are resized at a time


def prepare(
    source: Source, *, image_size: int | Sequence[int] | None = None, normalization: str = "half", **cuts: Any
) -> Dataset:
    """Split, limit, resize and measure a source.

    Args:
        normalization: `half` (mean and std 0.5; only for pixels), `dataset` (measured on the training split) or `none`.
        cuts: arguments of `cut_splits`, whose errors apply too.
    """
    source, pool = cut_splits(source.add_marks(), **cuts)
    info, train, val, test = source.info, source.train, source.val, source.test
    assert test is not None, "it has been cut"
    notes = (*source.notes, *find_duplicates(info, source.splits, source.paths))
    given = info.input_shape
    if info.dimensions == 1:
        _check_signal_settings(info, image_size, normalization)
    elif image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        train, test = resize(train, height, width), resize(test, height, width)
        val = None if val is None else resize(val, height, width)
        info = replace(info, image_size=to_image_size(height, width))
    mean, std = measure_normalization(normalization, train.shape[0], train.iterate_chunks())
    return Dataset(info, train, val, test, mean, std, pool, source.skipped, source.paths, notes, given)


def cut_splits(
    source: Source,
    *,
    seed: int,
    test_seed: int = 0,
    test_fraction: float = 0.0,
    val_fraction: float = 0.0,
    train_limit: int | None = None,
    fold: Fold | None = None,
) -> tuple[Source, str]:
    """Cut the splits of a source that has marks.

    Each class keeps its share, and at least one training image. A source's own splits stay whole, except that in a
    cross-validation a fold of the training images replaces the test split.

    Args:
        seed: chooses the images within the limit, the folds and the validation split.
        test_seed: chooses the test split, the same for every seed.
        test_fraction, val_fraction: for a source without such a split.

    Returns:
        The source with its splits and further notes, and a hash of the images from which training, validation and
        folds are drawn, the same for every seed.

    Raises:
        ValueError: nothing would be left to train, to validate or to test on.
    """
    info, train, val, test = source.info, source.train, source.val, source.test
    if test is None:  # first, and of all images, so that neither the seed nor the limit changes it
        assert train.marks is not None
        contents = [row.tobytes() for row in train.marks[:, FILE].numpy().astype("<i8")]
        tested, rest = cut_test(train.labels, contents, test_fraction, test_seed)
        test, train = train[tested], train[rest]
        refuse_single_images(info.class_names, train.labels, test.labels)
    pool = digest(info, train, val)
    notes = [*source.notes]
    if train_limit is not None and train_limit < len(train):
        classes = len(train.labels.unique())
        random = make_generator(seed, "train_limit")
        kept, _ = split_by_class(train.labels, train_limit, random, keep=train_limit >= classes)
        if lost := find_missing_classes(info.class_names, train.labels, train.labels[kept]):
            notes.append(f"data.train_limit={train_limit}: {_name_classes(lost)} no training image")
        train = train[kept]
    if fold is not None:
        test, train = hold_out(info.class_names, train, fold, seed)
    if val is None and val_fraction > 0:  # last, so that `train_limit=100` means 100 labelled images in all
        val, train = _cut_val(train, val_fraction, seed)
        trained, validated = (part.labels.bincount(minlength=info.num_classes) for part in (train, val))
        if single := torch.nonzero((trained == 1) & (validated == 0)).flatten().tolist():
            names = _name_classes([info.class_names[label] for label in single])
            notes.append(f"{names} a single training image, and none for validation")
    return replace(source, train=train, val=val, test=test, notes=tuple(notes)), pool


def _cut_val(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Cut off a stratified share of the images, so that the rest lacks no class."""
    count = round(fraction * len(split))
    if not 0 < count < len(split):
        raise ValueError(
            f"data.val_fraction={fraction} of {len(split)} training images is {count}: must leave images on both sides"
        )
    chosen, rest = split_by_class(split.labels, count, make_generator(seed, "val_split"), leave=True)
    if not len(chosen):
        raise ValueError(
            f"data.val_fraction={fraction}: each class has a single training image, and a class whose only image is "
            "used for validation is not learned. Set it to 0 or add images"
        )
    return split[chosen], split[rest]


def refuse_single_images(names: tuple[str, ...], train: Tensor, test: Tensor) -> None:
    """Refuse classes whose single image leaves none to test on, after the test split has been cut."""
    if single := find_missing_classes(names, train, test):
        raise ValueError(
            f"{_name_classes(single)} a single image, so none is left to test on. Add images of each class, or your "
            "own test split"
        )


def find_missing_classes(names: tuple[str, ...], labels: Tensor, others: Tensor) -> list[str]:
    """The classes of some labels that do not occur among others."""
    return [names[label] for label in sorted({*labels.tolist()} - {*others.tolist()})]


def _name_classes(names: Sequence[str]) -> str:
    shown = join_some([repr(format_path(name)) for name in names], SHOWN)
    return f"class{'es' if len(names) > 1 else ''} {shown} {'have' if len(names) > 1 else 'has'}"


def _check_signal_settings(info: DatasetInfo, size: int | Sequence[int] | None, normalization: str) -> None:
    if size not in (None, info.image_size):
        raise ValueError(
            f"data.image_size={size} resizes images, but {info.name} holds signals of {info.image_size} samples: "
            "must be null"
        )
    if normalization == "half":
        raise ValueError(f"data.normalize=half is for pixels, but {info.name} holds signals: use dataset or none")


def split_by_class(
    labels: Tensor, count: int, random: torch.Generator, *, keep: bool = False, leave: bool = False
) -> tuple[Tensor, Tensor]:
    """Choose `count` indices at random so that each class keeps its share, by the largest remainders.

    Args:
        keep: choose at least one of each class; `count` must then be at least the number of classes.
        leave: leave at least one of each class, if need be by choosing fewer than `count`.

    Returns:
        The chosen indices and all others, both ascending.
    """
    order = torch.randperm(len(labels), generator=random)
    classes, counts = torch.unique(labels, return_counts=True)
    share = counts.double() * count / len(labels)
    # At random between equal remainders: otherwise the first classes would always win.
    tie_break = torch.rand(len(classes), generator=random, dtype=torch.float64) * 1e-6
    by_remainder = torch.argsort(share.floor() - share + tie_break)
    lowest, highest = torch.full_like(counts, keep), counts - int(leave)
    quota = torch.minimum(torch.maximum(share.floor().long(), lowest), highest)
    # What rounding down left over goes to the largest remainders with room; what `keep` added to quotas is taken back
    # from the smallest.
    while missing := count - int(quota.sum()):
        ranked = by_remainder if missing > 0 else by_remainder.flip(0)
        able = ranked[(quota < highest if missing > 0 else quota > lowest)[ranked]][: abs(missing)]
        if not len(able):
            break
        quota[able] += 1 if missing > 0 else -1
    chosen = _take_first_of_each(order, labels, quota)
    return torch.nonzero(chosen).flatten(), torch.nonzero(~chosen).flatten()


def _take_first_of_each(order: Tensor, labels: Tensor, quota: Tensor) -> Tensor:
    """Choose the first images of each class in the order, as many as its quota (classes ascending): bool (N,)."""
    _, counts = torch.unique(labels, return_counts=True)
    by_class = order[labels[order].argsort(stable=True)]
    # The rank of each image within its class: its place in the sorted order less that of the first of its class.
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[by_class[place < quota.repeat_interleave(counts)]] = True
    return chosen


def cut_test(labels: Tensor, contents: Iterable[bytes], fraction: float, test_seed: int) -> tuple[Tensor, Tensor]:
    """Choose the test split of data without one: a function of the data and `data.test_seed`, not of the run's seed.

    It has the images of each class with the lowest hashes. So adding or removing an image moves at most one other of
    its class, and the order of images does not matter. A class of two or more images has some on both sides.

    Args:
        contents: what distinguishes each image, such as its path.

    Returns:
        The indices of the test split and all others, both ascending.
    """
    # torch sorts no unsigned 64-bit integers, so the hash loses a bit.
    salt = f"{test_seed}/test_split/".encode()
    ranks = torch.tensor(
        [int.from_bytes(hashlib.sha256(salt + content).digest()[:8], "little") >> 1 for content in contents]
    )
    _, counts = torch.unique(labels, return_counts=True)
    quota = torch.minimum((fraction * counts).round().clamp_min(1), counts - 1)
    tested = _take_first_of_each(torch.argsort(ranks, stable=True), labels, quota)
    return torch.nonzero(tested).flatten(), torch.nonzero(~tested).flatten()


def resize(split: Split, height: int, width: int) -> Split:
    """Resize the images of a split, bilinear and antialiased; they stay uint8."""
    if split.shape[-2:] == (height, width) or not len(split):
        return split
    channels = split.shape[0]
    size = height if height == width else f"[{height},{width}]"
    what = f"data.image_size={size} of {len(split):,} images with {channels} channel(s)"
    refuse_beyond_memory(len(split) * channels * height * width, what)
    several = max(1, LARGEST_CHUNK // (channels * height * width))
    chunks = [
        F.interpolate(chunk.float(), (height, width), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for larger in split.iterate_chunks()
        for chunk in larger.split(several)
    ]
    return Split(torch.cat(chunks), split.labels, marks=split.marks)


def measure_normalization(
    kind: str, channels: int, chunks: Iterable[Tensor]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels scaled to 0…1 or of signals as they are.

    Args:
        kind: `half`, `dataset` or `none`; only `dataset` reads the images.
        chunks: the training images or signals, several at a time.
    """
    if kind == "none":
        return (0.0,) * channels, (1.0,) * channels
    if kind == "half":
        return (0.5,) * channels, (0.5,) * channels
    counts = np.zeros((channels, 256), dtype=np.int64)
    signals = []
    for chunk in chunks:
        if chunk.is_floating_point():
            signals.append(chunk)
            continue
        for channel, pixels in enumerate(chunk.unbind(1)):
            # Counting the 256 values is exact, and needs no float copy of the images.
            counts[channel] += np.bincount(pixels.cpu().numpy().ravel(), minlength=256)
    if signals:
        flat = torch.cat(signals).double().transpose(0, 1).flatten(1)
        # A constant channel must not divide by zero.
        deviations = flat.std(1, correction=0).clamp_min(1e-6)
        return tuple(flat.mean(1).tolist()), tuple(deviations.tolist())
    values = np.arange(256) / 255
    means, stds = [], []
    for count in counts:
        weights = count / count.sum()
        mean = float(weights @ values)
        means.append(mean)
        # At least one grey level: nearly constant channels would otherwise be scaled to pure noise.
        stds.append(max(float(weights @ (values - mean) ** 2) ** 0.5, 1 / 255))
    return tuple(means), tuple(stds)
