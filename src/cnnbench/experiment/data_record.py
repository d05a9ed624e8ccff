"""What a run records of its data, to be compared when it is resumed or measured.

`data.json` is written before training. For each split it holds the number of images and two SHA-256 sums over them and
their labels, in order: one of their files, one of their values. For one's own images and signals it also holds a short
hash of the values of each (16 hexadecimal digits), which recognises it wherever it lies. It counts the images that
`data.exclude` left out; their list is copied to `excluded.csv`. `near_tests` is the number of test images that are
nearly the same as others, which a resumed run does not count again. Every checkpoint records the shape, the classes and
the scaling of the images, so that others can be prepared in the same way.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, DatasetInfo, Split, to_image_size
from cnnbench.data.contents import digest
from cnnbench.data.dataset import VALUES
from cnnbench.data.hashing import to_numbers
from cnnbench.data.polarity import SAMPLE, find_polarity
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.atomic import write_bytes
from cnnbench.storage.plain_data import check_kinds, read_json, write_json
from cnnbench.storage.regular import refuse_damaged

NAME, LIST = "data.json", "excluded.csv"
SPLITS = ("train", "val", "test")
MOST_HASHES = 2**21  # images; larger splits get one hash in all, so that the file stays small enough to read
NOT_ITS_DATA = "not the data of this run"
MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIGNAL = 4096, 2**14, 2**24  # of images in a checkpoint that may be a stranger's
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


@dataclass(frozen=True)
class SplitRecord:
    """The record of one split in `data.json`."""

    images: int
    files_sha256: str
    values_sha256: str
    hashes: np.ndarray | None  # int64 (N,), of the values of each image, in order; None if they are not kept

    def is_same(self, info: DatasetInfo, split: Split | None) -> bool:
        """Whether a split holds the same images with the same labels in the same order."""
        if split is None or len(split) != self.images:
            return False
        return self.files_sha256 == digest(info, split) or self.values_sha256 == digest(info, split, column=VALUES)


DataRecord = Mapping[str, SplitRecord]  # by the split's name


def record_data(run: RunFolder, dataset: Dataset, *, each: bool, test: bool = True) -> dict[str, str]:
    """Record the data of a new run or, if the run has checkpoints, compare the data with its record.

    Args:
        each: record a hash of each image.
        test: the run uses the test split.

    Returns:
        The hash of each split, for the checkpoints.

    Raises:
        ValueError: the data differ from those that the run began with.
    """
    # A run that was killed before its first checkpoint has learned nothing yet: it may start with other data.
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
    values: dict[str, dict[str, Any]] = {}
    for name, split in splits.items():
        files, contents = digest(dataset.info, split), digest(dataset.info, split, column=VALUES)
        values[name] = {"images": len(split), "files_sha256": files, "values_sha256": contents}
        if each:
            values[name]["hashes"] = hash_split(split).astype("<i8").tobytes().hex()
    if not begun:
        excluded: dict[str, Any] = {}
        if dataset.exclusion:
            write_bytes(run.path / LIST, dataset.exclusion.content)
            list_sha256 = hashlib.sha256(dataset.exclusion.content).hexdigest()
            excluded = {"excluded": {**dataset.exclusion.counts, "sha256": list_sha256}}
        near = {} if dataset.near_tests is None else {"near_tests": dataset.near_tests}
        write_json(run.path / NAME, {"splits": values} | excluded | near)
    return {name: described["files_sha256"] for name, described in values.items()}


def read_near_tests(run: RunFolder) -> int | None:
    """The recorded number of test images that are nearly the same as others; None if they are yet to be counted."""
    path = run.path / NAME
    if not any(run.checkpoints.glob("*.safetensors")) or not path.exists():  # the data may still change
        return None
    found: int | None = check_kinds(path, read_json(path), {"near_tests": int}).get("near_tests")
    return found


def describe_own_data(config: Config, folder: Path, *, check: bool = False) -> Config:
    """The config by which a run's data are loaded again.

    Args:
        check: whether `data.check` applies, as to a resumed run that has not recorded its result.
    """
    list_ = folder / LIST  # the run's copy, because the original may be gone or changed
    has_list = config.data.exclude is not None and list_.exists()
    mode = config.data.check if check else "off"
    changes = {"check": mode, "exclude": str(list_) if has_list else config.data.exclude}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


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
        refuse_damaged(path, "it does not hold a hash for each image")
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
    # As multisets, because an image may occur several times.
    before = {name: Counter(_gather_hashes(record, [name]).tolist()) for name in record}
    after = {name: Counter(hash_split(split).tolist()) for name, split in now.items()}
    all_before, all_after = (sum(counts.values(), Counter[int]()) for counts in (before, after))
    missing, added = all_before - all_after, all_after - all_before  # differences of counters are never negative
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
    left = Counter(_gather_hashes(record, [name]).tolist())
    for value in _gather_hashes(record, record.keys() - {name}).tolist():
        left.pop(value, None)
    found = []
    for index, value in enumerate(hash_split(split).tolist()):
        if left[value] > 0:
            left[value] -= 1
            found.append(index)
    return torch.tensor(found, dtype=torch.int64)


def find_seen(record: DataRecord, names: Iterable[str], split: Split) -> Tensor:
    """Which images a run had in some of its splits, bool (N,)."""
    return torch.from_numpy(np.isin(hash_split(split), _gather_hashes(record, names)))


def count_leaks(dataset: Dataset) -> int:
    """How many test images, by their values, are also training or validation images."""
    known = np.concatenate([hash_split(dataset.train), hash_split(dataset.val)])
    return int(np.isin(hash_split(dataset.test), known).sum())


def _gather_hashes(record: DataRecord, names: Iterable[str]) -> np.ndarray:
    """The hashes of all images of some splits, int64 (N,); none of a split without them."""
    kept = [record[name].hashes for name in names if name in record]
    return np.concatenate([np.zeros(0, np.int64), *(hashes for hashes in kept if hashes is not None)])


def describe_images(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint records of the images, as an `ImageRecord` reads it."""
    polarity = None
    if dataset.info.in_channels == 1:  # only grey images have a polarity; reading colour images might decode them all
        sample = torch.arange(0, len(dataset.train), -(-len(dataset.train) // SAMPLE))
        polarity = find_polarity(dataset.train[sample].images)
    return {**asdict(dataset.info), "mean": dataset.mean, "std": dataset.std, "polarity": polarity}


class ImageRecord(BaseModel):
    """What a checkpoint records of its images, checked for the types and ranges that its readers rely on."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    name: str
    in_channels: int = Field(ge=1, le=MOST_CHANNELS)
    image_size: (
        Annotated[int, Field(ge=1, le=LARGEST_SIGNAL)] | Annotated[list[Side], Field(min_length=2, max_length=2)]
    )
    class_names: list[str]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    dimensions: Literal[1, 2] = 2
    polarity: Any = None

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sides = [self.image_size] if isinstance(self.image_size, int) else self.image_size
        if len(sides) > self.dimensions or (self.dimensions == 2 and max(sides) > LARGEST_SIDE):
            raise ValueError(f"image_size={self.image_size} does not fit {self.dimensions} dimensions")
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise ValueError(f"mean and std do not have {self.in_channels} channels")
        return self

    @property
    def info(self) -> DatasetInfo:
        """Shape and classes."""
        size = self.image_size if isinstance(self.image_size, int) else to_image_size(*self.image_size)
        return DatasetInfo(self.name, self.in_channels, size, tuple(self.class_names), self.dimensions)


def read_image_record(record: Mapping[str, Any]) -> ImageRecord:
    """The part of a checkpoint's record that is about images.

    Raises:
        ValueError: it is missing or impossible.
    """
    try:
        return ImageRecord.model_validate(record.get("data"))
    except ValidationError as error:
        first = error.errors()[0]  # one is enough: nobody edits checkpoints
        where = ".".join(map(str, ["data", *first["loc"]]))
        raise ValueError(f"the checkpoint does not say how its images were prepared: {where}: {first['msg']}") from None
