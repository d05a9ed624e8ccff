"""Choose the images that a finished run is measured on, and leave out those that it has learned from."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnbench import registry
from cnnbench.config.schema import Config
from cnnbench.data import Dataset, DatasetInfo, Split, find_data_shape
from cnnbench.data.exclusion import match_marks
from cnnbench.data.memory import limit_data_of_run
from cnnbench.data.sets.arrays import NAME as ARRAYS
from cnnbench.experiment.data_record import (
    NOT_ITS_DATA,
    DataRecord,
    describe_changes,
    describe_own_data,
    find_kept,
    find_seen,
    read_data,
)
from cnnbench.experiment.loading import get_data_settings, load_dataset
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.storage.text import format_path, join_some, make_printable

NAMED = 5  # classes in a note
LEARNED_FROM = ("train", "val", "test")  # ordered by how much a run learns from the split, most first
Load = Callable[..., Dataset]  # `load_dataset` with some of its arguments
VERBS = {"train": "trained", "val": "validated", "test": "tested"}


@dataclass(frozen=True)
class DataChoice:
    """What to measure a run on; None keeps what the run was trained with."""

    split: str = "test"  # train, val or test
    data: str | None = None  # another dataset with the same classes and channels; images are resized to the run's size
    options: Mapping[str, Any] = field(default_factory=dict)  # of that dataset, from its YAML file
    path: str | None = None  # another folder of images or CSV file; without a test split, all of it is measured
    root: str | None = None  # the folder of the datasets
    exclude: str | None = None  # a file that lists images; see `MeasuredData.is_listed`


@dataclass(frozen=True)
class MeasuredData:
    """A split to measure, its dataset, and notes for the reader of the figures."""

    dataset: Dataset
    split: Split
    notes: list[str]

    @property
    def is_listed(self) -> Tensor | None:
        """Which images of the split the list of `DataChoice.exclude` names, bool (N,); None without a list."""
        return None if self.dataset.listed is None else match_marks(self.split, self.dataset.listed)


def choose_data(trained: Trained, choice: DataChoice) -> MeasuredData:
    """Find the images to measure. The run's config is changed to describe them.

    Raises:
        ValueError: no such split, data of other classes, or none of the run's images.
    """
    config, info, split = trained.config, trained.info, choice.split
    _point_at(config, info, choice)
    _check_shape(config, info)  # before anything is downloaded
    record = read_data(trained.folder.path)
    load = partial(load_dataset, classes=list(info.class_names), listed=choice.exclude)
    choose = _choose_own if choice.data is None and choice.path is None else _choose_other
    found = choose(describe_own_data(config, trained.folder.path), split, record, info, load)
    notes = list(found.notes)
    if split not in record or not record[split].is_same(found.dataset.info, found.split):
        supports = found.split.labels.bincount(minlength=info.num_classes).tolist()
        absent = [repr(format_path(name)) for name, n in zip(info.class_names, supports, strict=True) if not n]
        if absent:
            notes.append(f"no images of {join_some(absent, NAMED)}: the figures cover the other classes")
    if skipped := found.dataset.skipped:
        unread = [f"{file}: {reason}" for file, reason in skipped]
        notes.append(f"files that cannot be read as images are left out: {join_some(unread, 1, '; ')}")
    return replace(found, notes=notes)


def _point_at(config: Config, info: DatasetInfo, choice: DataChoice) -> None:
    """Make a run's config describe the data that it is measured on."""
    data = config.data
    if choice.data is not None or choice.path is not None:
        data.fold = data.folds = None  # they divide the run's own images
    own_path = None if choice.data or choice.path else data.options.get("path")
    if own_path is not None and not os.path.exists(os.path.expanduser(own_path)):
        raise ValueError(
            f"data.path={format_path(own_path)!r} of the run does not exist: give its new place with --path"
        )
    if choice.data is not None and (choice.data != data.name or choice.data == ARRAYS):
        data.name, data.exclude = choice.data, None
        data.options.clear()
        data.options.update(choice.options)
    if choice.path is not None:
        if "path" not in data.options:
            raise ValueError(
                f"--path {choice.path}: {data.name} has no path; use --data image_folder --path {choice.path}"
            )
        data.options["path"] = os.path.expanduser(choice.path)
        if "test_path" in data.options:
            data.options["test_path"] = None  # the run's own test file is not part of the other data
    if "on_bad_image" in data.options:
        data.options["on_bad_image"] = "skip"  # and a note counts them
    if "channels" in data.options:
        data.options["channels"] = info.in_channels
    if choice.root is not None:  # the user named this folder, so downloads may go there; a stranger's config may not
        data.root, data.download = os.path.expanduser(choice.root), True
    data.image_size = [*info.size] if info.dimensions == 2 else None
    data.normalize = "none"  # the run's own constants apply


@limit_data_of_run()
def _choose_own(config: Config, split: str, record: DataRecord, info: DatasetInfo, load: Load) -> MeasuredData:
    """A split of the run's own data, or what remains of it."""
    has_hashes = split in record and record[split].hashes is not None
    try:
        dataset = load(config)
    except ValueError as error:  # the remaining images cannot be split as before
        if not has_hashes:
            raise
        note = f"{NOT_ITS_DATA}: what is left cannot be split as it was: {error}"
    else:
        _check_classes(config.data.name, dataset.info.class_names, info.class_names)
        chosen, changes = _get_split(dataset, split), describe_changes(record, dataset)
        if not record:
            note = "the run's folder does not record its data, which may have changed"
            return MeasuredData(dataset, chosen, [note])
        if not changes:
            return MeasuredData(dataset, chosen, [])
        note = f"{NOT_ITS_DATA}: {changes}"
        if split not in record:
            return _leave_out_seen(split, dataset, chosen, record, note)
        if record[split].is_same(dataset.info, chosen):
            return MeasuredData(dataset, chosen, [f"{note}. Its {split} images have not changed"])
    total = record[split].images
    # The splits have changed, but the images that the run had in this one can be recognised by their hashes.
    if has_hashes:
        dataset = load(_remove_cuts(config), test_on_all=True)
        is_cut = (split == "val" and dataset.val is None) or (split == "test" and config.data.held_out is not None)
        candidates = dataset.train if is_cut else _get_split(dataset, split)
        chosen = candidates[find_kept(record, split, candidates)]
        if len(chosen):
            note = f"{note}. Only the {len(chosen)} of its {total} {split} images that are still here are measured"
            return MeasuredData(dataset, chosen, [note])
    option = "--path DIR" if "path" in config.data.options else f"--data {config.data.name}"
    raise ValueError(f"{note}. None of its {total} {split} images is here; {option} measures the run on others")


def _choose_other(config: Config, split: str, record: DataRecord, info: DatasetInfo, load: Load) -> MeasuredData:
    """A split of other data, without the images that the run has learned from."""
    whole = split == "test"  # nothing of other data was trained on, so all of it can be tested
    dataset = load(_remove_cuts(config) if whole else config, test_on_all=whole)
    _check_classes(config.data.name, dataset.info.class_names, info.class_names)
    chosen = _get_split(dataset, split)
    if split not in record or record[split].is_same(dataset.info, chosen):
        return MeasuredData(dataset, chosen, [])
    if config.data.name == info.name and record[split].hashes is None:
        changes = describe_changes({split: record[split]}, dataset)
        return MeasuredData(dataset, chosen, [f"{NOT_ITS_DATA}: {changes}"])
    return _leave_out_seen(split, dataset, chosen, record)


def _leave_out_seen(split: str, dataset: Dataset, chosen: Split, record: DataRecord, note: str = "") -> MeasuredData:
    """Drop the images that the run used in an earlier split of `LEARNED_FROM`; a note counts them."""
    earlier = LEARNED_FROM[: LEARNED_FROM.index(split)]
    used, own = find_seen(record, earlier, chosen), find_seen(record, [split], chosen)
    in_split, left_out, others = int((own & ~used).sum()), int(used.sum()), int((~own & ~used).sum())
    if not in_split and not left_out:
        return MeasuredData(dataset, chosen, [note] if note else [])
    known = f"{VERBS[split]} on {in_split}"
    if earlier:
        known += f" and {' or '.join(VERBS[name] for name in earlier)} on {left_out}, which are left out"
    note = (
        f"{note or NOT_ITS_DATA}: of {len(chosen)} images, the run was {known}; "
        f"{others} are {'new to it' if split == 'test' else 'others'}"
    )
    if not in_split + others:
        raise ValueError(note)
    return MeasuredData(dataset, chosen[torch.nonzero(~used).flatten()], [note])


def _remove_cuts(config: Config) -> Config:
    data = config.data.model_copy(update={"val_fraction": 0.0, "train_limit": None, "fold": None, "folds": None})
    return config.model_copy(update={"data": data})


def _get_split(dataset: Dataset, name: str) -> Split:
    found: Split | None = getattr(dataset, name) if name in VERBS else None
    if found is None or not len(found):
        raise ValueError(f"--split {name}: the run has no such split. Use train, test or, if the run has one, val")
    return found


def _check_shape(config: Config, info: DatasetInfo) -> None:
    """Refuse data whose shape cannot fit the run."""
    data = config.data
    settings = get_data_settings(config) | {"classes": list(info.class_names), "test_fraction": None}
    shape, classes = find_data_shape(data.name, root=data.root, options=data.options, settings=settings)
    fits = (len(shape), shape[0]) == (len(info.input_shape), info.in_channels)
    if not fits or (data.name in registry.list_names("data_shape") and classes != info.num_classes):
        raise ValueError(
            f"{data.name} does not fit the run: it has {classes} classes of {_describe_shape(shape)}; "
            f"the run was trained on {info.num_classes} of {_describe_shape(info.input_shape)}"
        )


def _check_classes(name: str, found: Sequence[str], trained: Sequence[str]) -> None:
    if tuple(found) == tuple(trained):
        return
    known, here = set(trained), set(found)
    more, fewer = (
        [make_printable(one) for one in names if one not in others]
        for names, others in ((found, known), (trained, here))
    )
    problems = [f"has {join_some(more, 10)}, which the run does not have"] if more else []
    problems += [f"lacks {join_some(fewer, 10)}, which the run was trained on"] if fewer else []
    raise ValueError(f"{name} does not fit the run: it {' and '.join(problems) or 'has the classes in another order'}")


def _describe_shape(shape: tuple[int, ...]) -> str:
    return f"{'images' if len(shape) == 3 else 'signals'} with {shape[0]} channel(s)"
