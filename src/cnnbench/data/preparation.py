"""From a source to what a run trains, validates and tests on: cut, resized, measured."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.data.dataset import Dataset, DatasetInfo, Source, Split
from cnnbench.reproducibility import generator


def prepare(
    source: Source,
    *,
    seed: int,
    test_fraction: float = 0.0,
    val_fraction: float = 0.0,
    train_limit: int | None = None,
    image_size: int | None = None,
    normalization: str = "half",
) -> Dataset:
    """Cut, split and measure a source.

    A source without a test split has it cut first, from all of its images. Then the limit, and the validation split
    is cut from what it leaves, so that `train_limit=100` means 100 labelled images in all; a source's own validation
    split stays whole. Each class keeps its share. The test split is only ever resized.

    Args:
        test_fraction, val_fraction: for a source that has no such split.
        normalization: `half` (mean and std 0.5; only for pixels), `dataset` (measured on the training split) or `none`.

    Raises:
        ValueError: nothing would be left to train, to validate or to test on.
    """
    train, val, test = source.train, source.val, source.test
    if test is None:
        test, train = _cut(train, "test", test_fraction, seed)
        _refuse_one_sided(source.info.class_names, train.labels, test.labels, test_fraction)
    if train_limit is not None and train_limit < len(train):
        kept, _ = stratified_split(train.labels, train_limit, generator(seed, "train_limit"))
        train = train[kept]
    if val is None and val_fraction > 0:
        val, train = _cut(train, "val", val_fraction, seed)
    size = image_size or source.info.image_size
    if source.info.dimensions == 1:
        _check_signal_settings(source.info, size, normalization)
    else:
        train, test = resize(train, size), resize(test, size)
        val = None if val is None else resize(val, size)
    mean, std = normalization_constants(normalization, train.shape[0], train.chunks())
    info = replace(source.info, image_size=size)
    return Dataset(
        info, train, val, test, mean, std, source.skipped, source.origin, source_shape=source.info.input_shape
    )


def _cut(split: Split, name: str, fraction: float, seed: int) -> tuple[Split, Split]:
    """A stratified share of the images, and the rest of them."""
    count = round(fraction * len(split))
    if not 0 < count < len(split):
        raise ValueError(
            f"data.{name}_fraction={fraction} of {len(split)} training images is {count}: "
            "accepted is a fraction that leaves images on both sides"
        )
    chosen, rest = stratified_split(split.labels, count, generator(seed, f"{name}_split"))
    return split[chosen], split[rest]


def _refuse_one_sided(names: tuple[str, ...], train: Tensor, test: Tensor, fraction: float) -> None:
    left, cut = (labels.bincount(minlength=len(names)) for labels in (train, test))
    for name, trained, tested in zip(names, left.tolist(), cut.tolist(), strict=True):
        if not trained or not tested:
            raise ValueError(
                f"data.test_fraction={fraction}: class {name!r} has {trained + tested} image(s), and none is left to "
                f"{'test' if trained else 'train'} on. Accepted are more images of a class, another fraction, or a "
                "test split of your own"
            )


def _check_signal_settings(info: DatasetInfo, size: int, normalization: str) -> None:
    if size != info.image_size:
        raise ValueError(
            f"data.image_size={size} resizes images, but {info.name} holds signals of {info.image_size} samples: "
            "accepted is null"
        )
    if normalization == "half":
        raise ValueError(
            f"data.normalize=half is for pixels, but {info.name} holds signals: accepted is dataset or none"
        )


def stratified_split(labels: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose `count` indices at random so that each class keeps its share, by the largest remainders.

    Returns:
        The chosen indices and all others, both ascending.
    """
    order = torch.randperm(len(labels), generator=random)
    classes, counts = torch.unique(labels, return_counts=True)
    share = counts.double() * count / len(labels)
    quota = share.floor().long()
    missing = count - int(quota.sum())
    # Ties between equal remainders are broken at random, or the first classes would always win.
    tie_break = torch.rand(len(classes), generator=random, dtype=torch.float64) * 1e-6
    quota[torch.argsort(share.floor() - share + tie_break)[:missing]] += 1
    # Class after class, in the random order; of each class the first ones are chosen.
    by_class = order[labels[order].argsort(stable=True)]
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[by_class[place < quota.repeat_interleave(counts)]] = True
    return torch.nonzero(chosen).flatten(), torch.nonzero(~chosen).flatten()


def resize(split: Split, size: int) -> Split:
    """The split with square images of `size` pixels (bilinear, antialiased), still uint8."""
    if split.shape[-2:] == (size, size):
        return split
    chunks = [
        F.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for chunk in split.chunks()
    ]
    return Split(torch.cat(chunks), split.labels)


def normalization_constants(
    kind: str, channels: int, chunks: Iterable[Tensor]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels scaled to 0…1 or for signals as they are.

    Args:
        kind: `half`, `dataset` or `none`; only `dataset` looks at the images.
        chunks: those that are trained on, some at a time, as in `Split`.
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
        deviations = flat.std(1, correction=0).clamp_min(1e-6)
        return tuple(flat.mean(1).tolist()), tuple(deviations.tolist())
    values = np.arange(256) / 255
    means, stds = [], []
    for count in counts:
        weights = count / count.sum()
        mean = float(weights @ values)
        means.append(mean)
        stds.append(max(float(weights @ (values - mean) ** 2) ** 0.5, 1 / 255))
    return tuple(means), tuple(stds)
