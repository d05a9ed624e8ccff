"""What a run's data were: written before it trains, and compared with what is there when it goes on or is measured.

`data.json` has for each split the number of images, a SHA-256 of their files with their labels and one of their values
with their labels, in their order; of one's own images and signals also a short hash of the values of each, 16
hexadecimal digits, by which it is known again wherever it lies.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import Dataset, DatasetInfo, Split
from cnnbench.data.contents import digest
from cnnbench.data.dataset import VALUES
from cnnbench.data.hashing import to_numbers
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.plain_data import check_kinds, read_json, write_json
from cnnbench.storage.regular import refuse_damaged

NAME = "data.json"
SPLITS = ("train", "val", "test")
MOST_HASHES = 2**21  # images; of more, none is known again alone, and the file stays readable
NOT_ITS_DATA = "not the data of this run"


@dataclass(frozen=True)
class Known:
    """What a run's folder says of one of its splits.

    Attributes:
        hashes: int64, (N,), of the values of each image in their order; None where they are not kept.
    """

    images: int
    files_sha256: str
    values_sha256: str
    hashes: np.ndarray | None

    def is_same(self, info: DatasetInfo, split: Split | None) -> bool:
        """Whether a split holds the same images with the same labels in the same order."""
        if split is None or len(split) != self.images:
            return False
        return self.files_sha256 == digest(info, split) or self.values_sha256 == digest(info, split, column=VALUES)


def keep_data(run: RunFolder, dataset: Dataset, *, each: bool, test: bool = True) -> dict[str, str]:
    """Write down what a run is about to be trained on, or compare it with what its checkpoints were trained on.

    Args:
        each: keep a hash of each image.
        test: whether the test split is any of the run's.

    Returns:
        The hash of each split, for the checkpoints to say.

    Raises:
        ValueError: the data are not those that the run began with; the message says what differs.
    """
    begun = any(run.checkpoints.glob("*.safetensors"))
    if begun and (known := read_data(run.path)):
        if said := difference(known, dataset):
            raise ValueError(f"{NOT_ITS_DATA}: {said}. A run goes on with the images, labels and splits it began with")
        return {name: split.files_sha256 for name, split in known.items()}
    splits = {"train": dataset.train} | ({"val": dataset.val} if dataset.val else {})
    splits |= {"test": dataset.test} if test else {}
    each = each and sum(map(len, splits.values())) <= MOST_HASHES
    described = {name: _described(dataset.info, split, each) for name, split in splits.items()}
    if not begun:
        write_json(run.path / NAME, {"splits": described})
    return {name: values["files_sha256"] for name, values in described.items()}


def _described(info: DatasetInfo, split: Split, each: bool) -> dict[str, Any]:
    values = {
        "images": len(split),
        "files_sha256": digest(info, split),
        "values_sha256": digest(info, split, column=VALUES),
    }
    return values | ({"hashes": values_of(split).astype("<i8").tobytes().hex()} if each else {})


def values_of(split: Split) -> np.ndarray:
    """The hash of each image's values, int64 (N,)."""
    assert split.marks is not None
    return split.marks[:, VALUES].numpy()


def read_data(folder: Path) -> dict[str, Known]:
    """What a run's folder says of its splits; nothing in runs of earlier versions.

    Raises:
        ValueError: `data.json` is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    splits = check_kinds(path, read_json(path), {"splits": dict}).get("splits", {})
    return {name: _known(path, splits[name]) for name in SPLITS if name in splits}


def _known(path: Path, values: Any) -> Known:
    kinds: dict[str, type | tuple[type, ...]] = {"images": int, "hashes": str}
    values = check_kinds(path, values, kinds | dict.fromkeys(("files_sha256", "values_sha256"), str))
    try:
        hashes = to_numbers(bytes.fromhex(values["hashes"])) if "hashes" in values else None
        known = Known(values["images"], values["files_sha256"], values["values_sha256"], hashes)
    except (KeyError, ValueError) as error:
        refuse_damaged(path, f"it does not say what a split holds: {error}")
    if hashes is not None and len(hashes) != known.images:
        refuse_damaged(path, "it does not have a hash for each image")
    return known


def difference(known: Mapping[str, Known], dataset: Dataset) -> str:
    """In what a dataset differs from what is known of a run's; empty if in nothing."""
    now: dict[str, Split | None] = {name: getattr(dataset, name) for name in known}
    other = [name for name, split in known.items() if not split.is_same(dataset.info, now[name])]
    if not other:
        return ""
    before = {name: Counter(split.hashes.tolist()) for name, split in known.items() if split.hashes is not None}
    if len(before) < len(known):
        counts = [f"{name} had {known[name].images} images, and here it has {_count(now[name])}" for name in other]
        return f"other contents or labels ({'; '.join(counts)})"
    after = {name: Counter(() if split is None else values_of(split).tolist()) for name, split in now.items()}
    gone = _total(before) - _total(after)
    new = _total(after) - _total(before)
    replaced = min(gone.total(), new.total())
    moved = sum((before[name] - after[name]).total() for name in known) - gone.total()
    changes = [
        (replaced, "replaced by others"),
        (gone.total() - replaced, "gone"),
        (new.total() - replaced, "new"),
        (moved, "in another split"),
    ]
    words = [f"{count} {'is' if count == 1 else 'are'} {what}" for count, what in changes if count]
    images = f"of its {_total(before).total()} images "
    return images + ", ".join(words) if words else "the labels or the order of its images"


def _total(counts: Mapping[str, Counter[int]]) -> Counter[int]:
    return sum(counts.values(), Counter())


def _count(split: Split | None) -> int:
    return 0 if split is None else len(split)


def still_there(known: Mapping[str, Known], name: str, split: Split) -> Tensor:
    """The indices of images that a run had in one of its splits, and in no other; each as often as it had it."""
    hashes = known[name].hashes
    assert hashes is not None
    left = Counter(hashes.tolist())
    for other in known.keys() - {name}:
        for value in _hashes(known, other):
            left.pop(value, None)
    found = []
    for index, value in enumerate(values_of(split).tolist()):
        if left[value] > 0:
            left[value] -= 1
            found.append(index)
    return torch.tensor(found, dtype=torch.int64)


def seen(known: Mapping[str, Known], names: tuple[str, ...], split: Split) -> Tensor:
    """Which images a run had in some of its splits, bool (N,)."""
    values = np.array([value for name in names for value in _hashes(known, name)], np.int64)
    return torch.from_numpy(np.isin(values_of(split), values))


def _hashes(known: Mapping[str, Known], name: str) -> list[int]:
    hashes = known[name].hashes if name in known else None
    return [] if hashes is None else hashes.tolist()
