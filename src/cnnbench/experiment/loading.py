"""Load the data of a config: read, without the images that it excludes, split, and checked for near copies."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, DatasetInfo, Source, find_data_shape, load_source, prepare, to_image_size
from cnnbench.data.contents import digest, find_duplicates
from cnnbench.data.dataset import PLACE, VALUES
from cnnbench.data.exclusion import collect_marks, exclude_images, read_image_list
from cnnbench.data.files.pixel_store import name_cache_file
from cnnbench.quality.findings import Case, DataCheck, Finding, ImageName, RefusedData
from cnnbench.quality.images import FORMAT, measure_source
from cnnbench.storage.plain_data import check_kinds, read_json, write_json
from cnnbench.storage.text import format_path, join_some

log = logging.getLogger("cnnbench")
NAMED = 3  # pairs that a note names


def get_data_settings(config: Config) -> dict[str, Any]:
    """The settings of all datasets; each builder takes those that it has parameters for."""
    data, threads = config.data, config.trainer.threads
    return {
        "image_size": data.image_size,
        "test_fraction": data.test_fraction,
        "test_seed": data.test_seed,
        "threads": threads if isinstance(threads, int) else None,
    }


def describe_data(
    config: Config,
    *,
    channels: int | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> DatasetInfo:
    """The shape and the number of classes of a config's data, which are not loaded if both are known without them.

    Args:
        channels, image_size, num_classes: instead of the data's own; the data are not needed where all are given.

    Raises:
        ValueError: files that are needed and missing.
    """
    data = config.data
    if channels and image_size and num_classes:
        shape: tuple[int, ...] = (channels, *image_size)
        classes = num_classes
    else:
        settings = get_data_settings(config)
        shape, classes = find_data_shape(data.name, root=data.root, options=data.options, settings=settings)
    configured = [data.image_size] * 2 if isinstance(data.image_size, int) else data.image_size
    sides = image_size or configured or shape[1:]
    size = to_image_size(*sides) if len(shape) == 3 else sides[0]
    names = tuple(map(str, range(num_classes or classes)))
    return DatasetInfo(data.name, channels or shape[0], size, names, len(shape) - 1)


def load_dataset(
    config: Config,
    *,
    test_on_all: bool = False,
    test: bool = True,
    classes: list[str] | None = None,
    listed: str | None = None,
) -> Dataset:
    """Load the config's data, split and measured.

    Args:
        test_on_all: data without a test split are all tested, because the model has not seen them.
        test: whether the test images may be read; otherwise the test split is empty.
        classes: those of the run to be measured; one's own images or signals may lack some.
        listed: a file that lists images, whose marks are returned as `Dataset.listed`.

    Raises:
        ValueError: unknown or missing data, or no images left to train on.
        RefusedData: as `_check_near_copies`.
    """
    data, fold = config.data, config.data.held_out
    # A cross-validation never opens the test split, so that the test images stay unseen until the choice is made.
    settings = get_data_settings(config) | {"with_test": test and fold is None, "classes": classes}
    if test_on_all:
        settings["test_fraction"] = None
    source = load_source(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    marks = collect_marks(source, read_image_list(listed, "--exclude")) if listed is not None else None
    exclusion = None
    if data.exclude is not None:
        # The data that a finished run is measured on may have changed since its list was made.
        images = read_image_list(data.exclude, "data.exclude")
        source, exclusion = exclude_images(source, images, strict=classes is None)
    if test_on_all and source.test is None:
        source = replace(source, test=source.train)
    dataset = prepare(
        source,
        seed=config.all_seeds.split,
        test_seed=data.test_seed,
        test_fraction=data.test_fraction,
        val_fraction=data.val_fraction,
        train_limit=data.train_limit,
        fold=fold,
        image_size=data.image_size,
        normalization=data.normalize,
    )
    dataset = replace(dataset, exclusion=exclusion, listed=marks, fold=fold)
    if fold is not None:
        dataset = dataset if test else replace(dataset, test=dataset.test[torch.arange(0)])
        source = Source(dataset.info, dataset.train, dataset.test, dataset.val, paths=dataset.paths)  # as it was split
    is_new = classes is None and test  # a search reads no test images, with which the others would be compared
    return _check_near_copies(dataset, source, config) if is_new else dataset


@dataclass(frozen=True)
class NearCopies:
    """What a search for near copies found."""

    key: str  # a hash of the images and their names
    tests: int  # test images that are nearly the same as one that is trained or validated on
    notes: tuple[str, ...]  # a sentence for each kind of finding


_found: dict[str, NearCopies] = {}  # the jobs of a sweep, which are forked from one process, share it


def _check_near_copies(dataset: Dataset, source: Source, config: Config) -> Dataset:
    """The dataset with notes on nearly equal images in two splits or with two labels (`data.check`).

    Raises:
        RefusedData: `data.check` is `fail`, and there are equal or nearly equal images where none should be.
    """
    if config.data.check == "off" or source.info.dimensions != 2:
        return dataset
    found = _find_near_copies(source, config)
    if config.data.check == "fail":
        equal = find_duplicates(source.info, source.splits, source.paths)  # what `prepare` otherwise notes
        if problems := [*equal, *found.notes]:
            raise RefusedData(
                f"data.check=fail: {'; '.join(problems)}. `cnnbench check` lists these images, and data.exclude=LIST "
                "leaves them out"
            )
    return replace(dataset, notes=(*dataset.notes, *found.notes), near_tests=found.tests)


def _find_near_copies(source: Source, config: Config) -> NearCopies:
    """The near copies found earlier, in this process or in the cache, or found now, which may take a minute."""
    content, options = digest(source.info, *source.splits.values(), column=VALUES), config.data.options
    names = "\0".join(source.paths.names) if source.paths else ""
    key = hashlib.sha256(f"{FORMAT} {content} ".encode() + os.fsencode(names)).hexdigest()
    if key in _found:
        return _found[key]
    cache, path = options.get("cache"), options.get("path")
    # The ending of decoded images, so that a cache among the images is not taken for one of them.
    file = name_cache_file(cache, path, f"check {config.data.exclude}") if cache and path else None
    if file is not None:
        try:
            kept = check_kinds(file, read_json(file), {"key": str, "tests": int, "notes": list})
            if kept.get("key") == key:
                _found[key] = NearCopies(key, kept["tests"], tuple(map(str, kept["notes"])))
                return _found[key]
        except (OSError, ValueError, KeyError):
            pass  # none yet, or damaged: check again
    # Not at the top: it imports scipy.ndimage, which takes 0.2 s, and most runs check nothing.
    from cnnbench.quality.checking import check_images

    log.info("looking for nearly equal images before training (data.check=off skips this)")
    _found[key] = found = _describe_near_copies(check_images(measure_source(source)), source, key)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # names of files may be private
            write_json(file, asdict(found))
        except OSError as error:
            log.warning("data.cache: %s cannot be written (%s): the next run checks the data again", file, error)
    return found


def _describe_near_copies(check: DataCheck, source: Source, key: str) -> NearCopies:
    leaks, conflicts = (check.findings.get(kind, Finding(0)).cases for kind in ("near_leak", "near_conflict"))
    by_splits: dict[tuple[str, str], list[Case]] = {}
    for case in leaks:
        by_splits.setdefault((case.images[1].split, case.images[0].split), []).append(case)
    notes = [
        f"{len(cases)} of {check.splits[late]} {late} images are nearly the same as one in {early}, so figures on "
        f"{late} are too good: {_name_pairs(cases, source)}"
        for (late, early), cases in by_splits.items()
    ]
    if conflicts:
        notes.append(
            f"{len(conflicts)} images are nearly the same as one with another label: {_name_pairs(conflicts, source)}"
        )
    tests = {case.images[1].index for case in leaks if case.images[1].split == "test"}
    return NearCopies(key, len(tests), tuple(notes))


def _name_pairs(cases: Sequence[Case], source: Source) -> str:
    pairs = [" and ".join(_name_image(image, source) for image in reversed(case.images)) for case in cases[:NAMED]]
    return join_some(pairs, NAMED, "; ", total=len(cases))


def _name_image(image: ImageName, source: Source) -> str:
    split = source.splits[image.split]
    if source.paths is None or split.marks is None:
        return f"number {image.index + 1} of {image.split}"
    return repr(format_path(source.paths[int(split.marks[image.index, PLACE])]))
