"""Check a run's data before it is trained: `data.check`.

Equal images in two splits, or with two labels, are noted whenever data are split (`data.contents`). This looks for
nearly equal ones too, as they are decoded for training. That may take a minute, so the result is kept beside the
decoded images, for as long as images, labels and names stay as they are.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, Source
from cnnbench.data.contents import digest, find_duplicates
from cnnbench.data.dataset import PLACE, VALUES
from cnnbench.data.files.pixel_store import name_cache_file
from cnnbench.quality.findings import Case, DataCheck, ImageName, RefusedData
from cnnbench.quality.images import FORMAT, measure_source
from cnnbench.storage.plain_data import check_kinds, read_json, write_json
from cnnbench.storage.text import format_path, join_some

log = logging.getLogger("cnnbench")
NAMED = 3  # pairs that a note names


@dataclass(frozen=True)
class NearCopies:
    """What was found among the images with this key.

    Attributes:
        tests: how many test images are nearly the same as one that is trained or validated on.
        notes: a sentence for each kind of finding.
    """

    key: str
    tests: int
    notes: tuple[str, ...]


_found: dict[str, NearCopies] = {}  # the jobs of a sweep, which are forked from one process, share it


def check_before_training(dataset: Dataset, source: Source, config: Config) -> Dataset:
    """The dataset with notes on nearly equal images in two splits or with two labels.

    Args:
        source: what the dataset was made of.

    Raises:
        RefusedData: `data.check` is `fail`, and there are equal or nearly equal images where none should be.
    """
    if config.data.check == "off" or source.info.dimensions != 2:
        return dataset
    found = _find_near_copies(source, config)
    if config.data.check == "fail":
        equal = find_duplicates(source.info, source.splits, source.paths)
        if problems := [*equal, *found.notes]:
            raise RefusedData(
                f"data.check=fail: {'; '.join(problems)}. `cnnbench check` lists these images, and data.exclude=LIST "
                "leaves them out"
            )
    return replace(dataset, notes=(*dataset.notes, *found.notes), near_tests=found.tests)


def _find_near_copies(source: Source, config: Config) -> NearCopies:
    """The result of the check, from this process, from the cache, or found now."""
    key, options = _compute_key(source), config.data.options
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
    # Not at the top: it imports scipy.ndimage, which takes 0.2 s, and most runs look for nothing.
    from cnnbench.quality.checking import check_images

    log.info("looking for nearly equal images before training (data.check=off skips this)")
    _found[key] = found = _describe(check_images(measure_source(source)), source, key)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(file, asdict(found))
        except OSError as error:
            log.warning("data.cache: %s cannot be written (%s): the next run checks the data again", file, error)
    return found


def _compute_key(source: Source) -> str:
    """A hash of images, labels and names of the files."""
    content = digest(source.info, *source.splits.values(), column=VALUES)
    names = "\0".join(source.paths.names) if source.paths else ""
    return hashlib.sha256(f"{FORMAT} {content} ".encode() + os.fsencode(names)).hexdigest()


def _describe(check: DataCheck, source: Source, key: str) -> NearCopies:
    leaks = check.findings["near_leak"].cases if "near_leak" in check.findings else ()
    by_splits: dict[tuple[str, str], list[Case]] = {}
    for case in leaks:
        by_splits.setdefault((case.images[1].split, case.images[0].split), []).append(case)
    notes = [
        f"{len(cases)} of {check.splits[late]} {late} images are nearly the same as one in {early}, so figures on "
        f"{late} are too good: {_name_pairs(cases, source)}"
        for (late, early), cases in by_splits.items()
    ]
    if conflicts := check.findings["near_conflict"].cases if "near_conflict" in check.findings else ():
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
