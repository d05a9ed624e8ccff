"""The record of a run's data, `data.json`: written before training, and compared when the run is resumed or measured.

For each split it holds the number of images and two SHA-256 sums over them and their labels, in order: one of their
files, one of their values. For one's own images and signals it also holds a short hash of the values of each (16
hexadecimal digits), which recognises it wherever it lies. It counts the images that `data.exclude` left out; their list
is copied to `excluded.csv`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, DatasetInfo, Split
from cnnbench.data.contents import digest
from cnnbench.data.dataset import VALUES
from cnnbench.data.hashing import to_numbers
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.atomic import write_bytes
from cnnbench.storage.plain_data import check_kinds, read_json, write_json
from cnnbench.storage.regular import refuse_damaged

NAME, LIST = "data.json", "excluded.csv"
SPLITS = ("train", "val", "test")
MOST_HASHES = 2**21  # images; larger splits get one hash in all, so that the file stays small enough to read
NOT_ITS_DATA = "not the data of this run"


@dataclass(frozen=True)
class SplitRecord:
    """The record of one split in `data.json`.

    Attributes:
        hashes: int64 (N,), of the values of each image, in order; None if they are not kept.
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


DataRecord = Mapping[str, SplitRecord]  # by the split's name


def record_data(run: RunFolder, dataset: Dataset, *, each: bool, test: bool = True) -> dict[str, str]:
    """Record the data of a new run or, if the run has checkpoints, compare the data with its record.

    Args:
        each: keep a hash of each image.
        test: whether the run uses the test split.

    Returns:
        The hash of each split, for the checkpoints.

    Raises:
        ValueError: the data differ from those that the run began with.
    """
    begun = any(run.checkpoints.glob("*.safetensors"))
    if begun and (record := read_data(run.path)):
        if changes := describe_changes(record, dataset):
            raise ValueError(
                f"{NOT_ITS_DATA}: {changes}. A run can only be resumed with the images, labels and splits that it "
                "started with"
            )
        return {name: split.files_sha256 for name, split in record.items()}
    splits = {"train": dataset.train} | ({"val": dataset.val} if dataset.val else {})
    splits |= {"test": dataset.test} if test else {}
    each = each and sum(map(len, splits.values())) <= MOST_HASHES
    values = {name: _describe_split(dataset.info, split, each) for name, split in splits.items()}
    if not begun:
        excluded: dict[str, Any] = {}
        if dataset.exclusion:
            write_bytes(run.path / LIST, dataset.exclusion.content)
            list_sha256 = hashlib.sha256(dataset.exclusion.content).hexdigest()
            excluded = {"excluded": {**dataset.exclusion.counts, "sha256": list_sha256}}
        write_json(run.path / NAME, {"splits": values} | excluded)
    return {name: described["files_sha256"] for name, described in values.items()}


def describe_own_data(config: Config, folder: Path, *, check: bool = False) -> Config:
    """The config by which a run's data are loaded again.

    Their list of excluded images is the copy in the run's folder, because the original may be gone or changed.

    Args:
        check: whether `data.check` applies, as it does to a run that is resumed: its summary says what was found.
    """
    list_ = folder / LIST
    has_list = config.data.exclude is not None and list_.exists()
    mode = config.data.check if check else "off"
    changes = {"check": mode, "exclude": str(list_) if has_list else config.data.exclude}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _describe_split(info: DatasetInfo, split: Split, each: bool) -> dict[str, Any]:
    values = {
        "images": len(split),
        "files_sha256": digest(info, split),
        "values_sha256": digest(info, split, column=VALUES),
    }
    return values | ({"hashes": hash_split(split).astype("<i8").tobytes().hex()} if each else {})


def hash_split(split: Split | None) -> np.ndarray:
    """The hash of each image's values, int64 (N,)."""
    if split is None:
        return np.array([], np.int64)
    assert split.marks is not None
    return split.marks[:, VALUES].numpy()


def read_data(folder: Path) -> dict[str, SplitRecord]:
    """The record in a run's folder; empty if there is none.

    Raises:
        ValueError: `data.json` is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    splits = check_kinds(path, read_json(path), {"splits": dict}).get("splits", {})
    return {name: _parse_split(path, splits[name]) for name in SPLITS if name in splits}


def _parse_split(path: Path, values: Any) -> SplitRecord:
    values = check_kinds(path, values, {"images": int, "hashes": str, "files_sha256": str, "values_sha256": str})
    try:
        hashes = to_numbers(bytes.fromhex(values["hashes"])) if "hashes" in values else None
        record = SplitRecord(values["images"], values["files_sha256"], values["values_sha256"], hashes)
    except (KeyError, ValueError) as error:
        refuse_damaged(path, f"it does not describe a split: {error}")
    if hashes is not None and len(hashes) != record.images:
        refuse_damaged(path, "it does not have a hash for each image")
    return record


def describe_changes(record: DataRecord, dataset: Dataset) -> str:
    """Describe how a dataset differs from a run's record; empty if it does not."""
    now: dict[str, Split | None] = {name: getattr(dataset, name) for name in record}
    changed = [name for name, split in record.items() if not split.is_same(dataset.info, now[name])]
    if not changed:
        return ""
    if any(split.hashes is None for split in record.values()):
        counts = [f"{name} had {record[name].images} images, here {len(hash_split(now[name]))}" for name in changed]
        return f"the contents or labels differ ({'; '.join(counts)})"
    before = {name: Counter(_read_hashes(record, [name])) for name in record}
    after = {name: Counter(hash_split(split).tolist()) for name, split in now.items()}
    all_before, all_after = (sum(counts.values(), Counter[int]()) for counts in (before, after))
    missing, added = all_before - all_after, all_after - all_before
    replaced = min(missing.total(), added.total())
    counts_by_change = {
        "replaced": replaced,
        "missing": missing.total() - replaced,
        "added": added.total() - replaced,
        "moved to another split": sum((before[name] - after[name]).total() for name in record) - missing.total(),
    }
    words = [f"{count} {change}" for change, count in counts_by_change.items() if count]
    if not words:
        return "the labels or the order of its images differ"
    return f"compared with its {all_before.total()} images: {', '.join(words)}"


def find_kept(record: DataRecord, name: str, split: Split) -> Tensor:
    """The indices of images that the run had in this split and in no other, each at most as often as the run had it."""
    left = Counter(_read_hashes(record, [name]))
    for value in _read_hashes(record, record.keys() - {name}):
        left.pop(value, None)
    found = []
    for index, value in enumerate(hash_split(split).tolist()):
        if left[value] > 0:
            left[value] -= 1
            found.append(index)
    return torch.tensor(found, dtype=torch.int64)


def find_seen(record: DataRecord, names: Sequence[str], split: Split) -> Tensor:
    """Which images a run had in some of its splits, bool (N,)."""
    return torch.from_numpy(np.isin(hash_split(split), np.array(_read_hashes(record, names), np.int64)))


def count_leaks(dataset: Dataset) -> int:
    """How many test images, by their values, are also training or validation images."""
    known = np.concatenate([hash_split(dataset.train), hash_split(dataset.val)])
    return int(np.isin(hash_split(dataset.test), known).sum())


def _read_hashes(record: DataRecord, names: Any) -> list[int]:
    hashes = [record[name].hashes for name in names if name in record]
    return [value for several in hashes if several is not None for value in several.tolist()]
