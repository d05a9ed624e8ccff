"""What a dataset is here, and the way from a source's files to train, validation and test splits."""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench import registry
from cnnbench.reproducibility import generator


@dataclass(frozen=True)
class DatasetInfo:
    """What a model must know of the images, or of the signals.

    Attributes:
        name: the dataset's name in a config.
        in_channels: 1 for greyscale, 3 for colour; how many values a sample of a signal has.
        image_size: height and width in pixels; the samples of a signal.
        class_names: a name for each label, in the order of the labels.
        dimensions: 2 for images (C, H, W), 1 for signals (C, L).
    """

    name: str
    in_channels: int
    image_size: int
    class_names: tuple[str, ...]
    dimensions: int = 2

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image (C, H, W), or of one signal (C, L)."""
        return (self.in_channels, *(self.image_size,) * self.dimensions)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


@dataclass(frozen=True)
class Split:
    """Images or signals, and their labels.

    Attributes:
        images: images are uint8, (N, C, H, W); signals are float32, (N, C, L).
        labels: int64, (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> "Split":
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Source:
    """A dataset as its publisher gives it: training and test images, nothing cut or scaled."""

    info: DatasetInfo
    train: Split
    test: Split


@dataclass(frozen=True)
class Dataset:
    """A dataset ready for training.

    Attributes:
        val: None where `val_fraction` is 0.
        mean, std: per channel, for pixels scaled to 0…1; what `normalize` subtracts and divides by.
    """

    info: DatasetInfo
    train: Split
    val: Split | None
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_source(name: str, *, root: str, download: bool, options: Mapping[str, Any] | None = None) -> Source:
    """Read a dataset; the last few are kept, so that a sweep reads each of them once.

    Args:
        root: the folder datasets are stored in.
        download: whether a dataset that is missing there may be fetched.
        options: what the dataset's own yaml adds; a file called `path` among them is read anew once it has changed.

    Raises:
        ValueError: an unknown name or option, or the files are missing; the message says where they belong.
    """
    given = dict(options or {})
    return _load_source(name, root, download, json.dumps(given, sort_keys=True), _version(given.get("path")))


def data_shape(name: str, *, root: str, options: Mapping[str, Any] | None = None) -> tuple[tuple[int, ...], int]:
    """The shape of one image (C, H, W), or of one signal (C, L), and the number of classes, without fetching anything.

    A dataset whose shape is fixed registers it as a `data_shape`; of any other the files are read.

    Raises:
        ValueError: an unknown name or option, or files that are needed and missing.
    """
    if name in registry.names("data_shape"):
        # First as the dataset's own, so that an error names what a user can write: data.split, not data_shape.split.
        registry.check_options("data", name, options or {}, given=("root", "download"))
        return registry.build("data_shape", name, options=options)
    info = load_source(name, root=root, download=False, options=options).info
    return info.input_shape, info.num_classes


@functools.lru_cache(maxsize=4)
def _load_source(name: str, root: str, download: bool, options: str, _: tuple[int, int] | None) -> Source:
    return registry.build("data", name, root=root, download=download, options=json.loads(options))


def _version(path: object) -> tuple[int, int] | None:
    """When a file was last changed, and its size; None where there is none."""
    try:
        found = os.stat(os.path.expanduser(str(path)))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def prepare(
    source: Source,
    *,
    seed: int,
    val_fraction: float = 0.0,
    train_limit: int | None = None,
    image_size: int | None = None,
    normalization: str = "half",
) -> Dataset:
    """Cut, split and measure a source.

    The limit comes first and the validation split is cut from what it leaves, so that `train_limit=100` means 100
    labelled images in all. Each class keeps its share. The test split is only ever resized.

    Args:
        normalization: `half` (mean and std 0.5; only for pixels), `dataset` (measured on the training split) or `none`.

    Raises:
        ValueError: nothing would be left to train or to validate on.
    """
    train, val = source.train, None
    everything = torch.arange(len(train))
    if train_limit is not None and train_limit < len(train):
        kept, _ = stratified_split(train.labels, train_limit, generator(seed, "train_limit"))
        everything = kept
    if val_fraction > 0:
        count = round(val_fraction * len(everything))
        if not 0 < count < len(everything):
            raise ValueError(
                f"data.val_fraction={val_fraction} of {len(everything)} training images is {count}: "
                "accepted is a fraction that leaves images on both sides"
            )
        labels = train.labels[everything]
        chosen, rest = stratified_split(labels, count, generator(seed, "val_split"))
        val = train[everything[chosen]]
        everything = everything[rest]
    if len(everything) < len(train):
        train = train[everything]
    size = image_size or source.info.image_size
    if source.info.dimensions == 1:
        _check_signal_settings(source.info, size, normalization)
        splits = [train, val, source.test]
    else:
        splits = [None if split is None else resize(split, size) for split in (train, val, source.test)]
    mean, std = normalization_constants(normalization, splits[0].images)  # type: ignore[union-attr]
    info = replace(source.info, image_size=size)
    return Dataset(info, splits[0], splits[1], splits[2], mean, std)  # type: ignore[arg-type]


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
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in zip(classes, quota, strict=True):
        members = order[labels[order] == label]
        chosen[members[: int(number)]] = True
    return torch.nonzero(chosen).flatten(), torch.nonzero(~chosen).flatten()


def resize(split: Split, size: int) -> Split:
    """The split with square images of `size` pixels (bilinear, antialiased), still uint8."""
    if split.images.shape[-2:] == (size, size):
        return split
    chunks = [
        F.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for chunk in split.images.split(4096)
    ]
    return Split(torch.cat(chunks), split.labels)


def normalization_constants(kind: str, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels scaled to 0…1 or for signals as they are.

    Args:
        kind: `half`, `dataset` or `none`.
        images: those that are trained on, as in `Split`.
    """
    channels = images.shape[1]
    if kind == "none":
        return (0.0,) * channels, (1.0,) * channels
    if kind == "half":
        return (0.5,) * channels, (0.5,) * channels
    if images.is_floating_point():
        flat = images.double().transpose(0, 1).flatten(1)
        deviations = flat.std(1, correction=0).clamp_min(1e-6)
        return tuple(flat.mean(1).tolist()), tuple(deviations.tolist())
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        # Counting the 256 values is exact, and needs no float copy of the images.
        weights = np.bincount(channel.cpu().numpy().ravel(), minlength=256) / channel.numel()
        mean = float(weights @ values)
        means.append(mean)
        stds.append(max(float(weights @ (values - mean) ** 2) ** 0.5, 1 / 255))
    return tuple(means), tuple(stds)
