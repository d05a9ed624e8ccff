"""What every dataset must do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cnnbench.conformance.checking import check, require
from cnnbench.data import Source, prepare
from cnnbench.data.contents import digest
from cnnbench.data.dataset import VALUES
from cnnbench.data.hashing import hash_rows


@dataclass(frozen=True)
class DataPart:
    """A registered dataset, with the options of its YAML file.

    Attributes:
        read: reads it again.
        shape: the shape of an image and the number of classes, which `summary` finds without reading it.
    """

    name: str
    read: Callable[[], Source]
    shape: tuple[tuple[int, ...], int]

    @cached_property
    def source(self) -> Source:
        """The dataset."""
        return self.read().add_marks()


@check("data", "its images have one shape and type, and a label each")
def _check_items(part: DataPart) -> None:
    info = part.source.info
    expected = torch.uint8 if info.dimensions == 2 else torch.float32
    # An evaluation recognises the dataset of a run by its name.
    require(info.name == part.name, f"DatasetInfo.name must be {part.name!r}, not {info.name!r}")
    for name, split in part.source.splits.items():
        labels = split.labels
        require(len(split) or name != "train", "the training split is empty")
        require(split.shape == info.input_shape, f"{name}: shape {split.shape}; DatasetInfo says {info.input_shape}")
        if isinstance(split.stored, Tensor):
            require(split.stored.dtype == expected, f"{name}: must be {expected}, not {split.stored.dtype}")
            require(len(split.stored) >= len(split), f"{name}: {len(labels)} labels for {len(split.stored)} images")
            finite = info.dimensions == 2 or bool(split.stored.isfinite().all())
            require(finite, f"{name}: some values are not finite")
        require(labels.dtype == torch.int64, f"{name}: labels must be torch.int64, not {labels.dtype}")
        if len(labels):
            low, high = int(labels.min()), int(labels.max())
            inside = low >= 0 and high < info.num_classes
            require(inside, f"{name}: labels from {low} to {high} for {info.num_classes} classes, numbered from 0")


@check("data", "its classes have different names, and training images")
def _check_classes(part: DataPart) -> None:
    names = part.source.info.class_names
    require(len({*names}) == len(names), "two classes have the same name")
    require(all(isinstance(name, str) and name for name in names), "each class needs a name, as text")
    missing = {*range(len(names))} - {*part.source.train.labels.tolist()}
    require(not missing, f"no training image of {[names[label] for label in sorted(missing)]}")


@check("data", "its splits share no image")
def _check_splits(part: DataPart) -> None:
    seen: dict[int, str] = {}
    for name, split in part.source.splits.items():
        assert split.marks is not None
        values = {*split.marks[:, VALUES].tolist()}
        shared = [seen[value] for value in values & seen.keys()]
        require(not shared, f"{len(shared)} of its images in {name} are in {', '.join(sorted({*shared}))} too")
        seen |= dict.fromkeys(values, name)


@check("data", "it has the same content each time it is read")
def _check_repeats(part: DataPart) -> None:
    """Whatever state the global generators are in."""
    first = part.source
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        second = part.read().add_marks()
    require(first.info == second.info, "read again, its DatasetInfo differs")
    require(first.splits.keys() == second.splits.keys(), "read again, it has other splits")
    for name, split in first.splits.items():
        digests = [digest(first.info, one, column=VALUES) for one in (split, second.splits[name])]
        require(digests[0] == digests[1], f"read again, {name} has other images or labels: draw with make_generator")


@check("data", "the shape it declares is that of its images")
def _check_shape(part: DataPart) -> None:
    info = part.source.info
    found = (info.input_shape, info.num_classes)
    require((tuple(part.shape[0]), part.shape[1]) == found, f"its data_shape says {part.shape}, and it is {found}")


@check("data", "it can be split and scaled")
def _check_preparation(part: DataPart) -> None:
    """As `data.val_fraction=0.1 data.normalize=dataset` does."""
    dataset = prepare(part.source, seed=0, val_fraction=0.1, normalization="dataset")
    require(min(dataset.std) > 0, "a channel has the same value everywhere")
    shared = {*_hash(dataset.train.images)} & {*_hash(dataset.test.images)}
    require(len(dataset.test) and not shared, "the prepared training and test images overlap")


def _hash(images: Tensor) -> list[int]:
    return hash_rows(images.numpy()).tolist()
