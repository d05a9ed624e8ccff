"""Leave out the images that a list names, before the data are split: `data.exclude=FILE`.

The list is a CSV file with a row for each image, from `cnnbench check` or written by hand. It has the columns

- `path`: the image's file, below `data.path`; required if the images have files
- `split`, `index`: the image's place in a published split, from 0; required if they have none
- `hash`, optional: the first 16 digits of the SHA-256 of the file or, without files, of the values
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnbench.data.dataset import FILE, PLACE, Exclusion, Source, Split
from cnnbench.data.files.csv_rows import read_rows
from cnnbench.data.preparation import find_missing_classes
from cnnbench.registry import find_nearest
from cnnbench.storage.csv_tables import LARGEST_CSV, unescape_formula
from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import format_path, join_some, make_printable, to_unicode

SHOWN_ROWS = 5  # wrong rows in an error
MOST_COMPARED = 5_000  # paths that are compared with a wrong one, to suggest the nearest
HINT = "must be a CSV file with the column path, or split and index, as `cnnbench check` writes it"


@dataclass(frozen=True)
class ListedImage:
    """A row of the list as written; `line` is where it begins."""

    line: int
    split: str
    index: str
    path: str
    hash: str


@dataclass(frozen=True)
class ImageList:
    """A list of images."""

    name: str  # for errors, such as `data.exclude='list.csv'`
    content: bytes
    rows: list[ListedImage]

    def locate(self, source: Source, *, strict: bool = True) -> dict[str, Tensor]:
        """The listed images of each split: ascending indices, int64 (n,).

        Args:
            source: with marks.
            strict: refuse a row that names no image; otherwise ignore it, because the data may have changed.

        Raises:
            ValueError: a row names no image, or one whose hash is another.
        """
        splits = source.splits
        by_path = _index_paths(source, splits, {row.path for row in self.rows})
        found: dict[str, set[int]] = {name: set() for name in splits}
        problems = []
        for row in self.rows:
            try:
                for split, index in _locate_row(row, source, splits, by_path):
                    _check_hash(row, splits[split], index)
                    found[split].add(index)
            except ValueError as error:
                problems.append((row, str(error)))
        if problems and strict:
            wrong = "1 row does" if len(problems) == 1 else f"{len(problems)} rows do"
            shown = [f"line {row.line}: {why}{_suggest_path(row, source)}" for row, why in problems[:SHOWN_ROWS]]
            raise ValueError(
                f"{self.name}: {wrong} not fit data={source.info.name}: "
                f"{join_some(shown, SHOWN_ROWS, '; ', total=len(problems))}"
            )
        return {name: torch.tensor(sorted(indices), dtype=torch.int64) for name, indices in found.items()}


def read_image_list(file: str, option: str) -> ImageList:
    """Read a list of images; errors name the key or option that gives the file.

    Raises:
        ValueError: it cannot be read, or lacks the columns that name an image.
    """
    name, path = f"{option}={format_path(file)!r}", os.path.expanduser(file)
    try:
        content = read_regular(path, LARGEST_CSV)
    except Refused as refused:
        raise ValueError(f"{name} cannot be read ({refused}): {HINT}") from None
    lines = read_rows(path, name)
    columns = [cell.strip().casefold() for cell in next(lines, (0, []))[1]]
    if "path" not in columns and not {"split", "index"} <= {*columns}:
        shown = join_some([repr(make_printable(column)) for column in columns], SHOWN_ROWS) or "none"
        raise ValueError(f"{name} has the columns {shown}: {HINT}")
    rows = []
    for line, cells in lines:
        row = dict(zip(columns, map(str.strip, cells), strict=False))
        values = {key: row.get(key, "") for key in ("split", "index", "hash")}
        rows.append(ListedImage(line, path=unescape_formula(row.get("path", "")), **values))
    return ImageList(name, content, rows)


def exclude_images(source: Source, images: ImageList, *, strict: bool = True) -> tuple[Source, Exclusion]:
    """The source without the listed images, and a record of them; `strict` as in `ImageList.locate`.

    Raises:
        ValueError: a row names no image, or no image would be left of a split or of a class to train on.
    """
    source = source.add_marks()
    located = images.locate(source, strict=strict)
    splits = source.splits
    for name, split in splits.items():
        keep = torch.ones(len(split), dtype=torch.bool)
        keep[located[name]] = False
        if keep.all():
            continue
        splits[name] = rest = split[torch.nonzero(keep).flatten()]
        is_train = name == "train"
        lost = find_missing_classes(source.info.class_names, split.labels, rest.labels) if is_train else []
        if lost or not len(rest):
            what = f"training image of class {format_path(lost[0])!r}" if lost else f"{name} image"
            raise ValueError(f"{images.name} leaves no {what}: shorten the list, or add images")
    remaining = replace(source, train=splits["train"], val=splits.get("val"), test=splits.get("test"))
    return remaining, Exclusion(images.content, {name: len(some) for name, some in located.items()})


def collect_marks(source: Source, images: ImageList) -> Tensor:
    """The marks of the listed images, int64 (n, 3), by which `match_marks` finds them in any split of the source."""
    source = source.add_marks()
    located = images.locate(source)
    return torch.cat([_get_marks(split)[located[name]] for name, split in source.splits.items()])


def match_marks(split: Split, marks: Tensor) -> Tensor:
    """Which images of a split have marks that `collect_marks` returned, bool (N,)."""
    # Both columns are needed: copies share a hash, and the first images of all splits a place.
    columns = [FILE, PLACE]
    listed = set(map(tuple, marks[:, columns].tolist()))
    return torch.tensor([tuple(mark) in listed for mark in _get_marks(split)[:, columns].tolist()], dtype=torch.bool)


def _get_marks(split: Split) -> Tensor:
    assert split.marks is not None, "the source has marks"
    return split.marks


def _index_paths(source: Source, splits: Mapping[str, Split], paths: set[str]) -> dict[str, list[tuple[str, int]]]:
    """Split and index of the listed files, by path; none for a file that cannot or, in a search, must not be read."""
    if source.paths is None:
        return {}
    given: dict[str, list[str]] = defaultdict(list)
    for path in paths - {""}:
        # A path may also start from the current folder, as `ls PHOTOS/*` prints it.
        for name in {path, to_unicode(os.path.relpath(path, source.paths.root))}:
            given[name].append(path)
    names = [given.get(to_unicode(name), ()) for name in source.paths.names]
    found: dict[str, list[tuple[str, int]]] = {path: [] for several in names for path in several}
    for split_name, split in splits.items():
        for index, place in enumerate(_get_marks(split)[:, PLACE].tolist()):
            for path in names[place]:
                found[path].append((split_name, index))
    return found


def _locate_row(
    row: ListedImage, source: Source, splits: Mapping[str, Split], by_path: Mapping[str, list[tuple[str, int]]]
) -> list[tuple[str, int]]:
    """The split and index of the image that a row names; none if that image is in no split that was read."""
    if source.paths is not None:
        if not row.path:
            raise ValueError("path is empty: images with files are named by their paths")
        if row.path not in by_path:
            raise ValueError(f"path={make_printable(row.path)!r} is not one of the images")
        # The row's split matters only for a file in several splits: another `data.test_seed` moves files between them.
        return [one for one in by_path[row.path] if one[0] == row.split] or by_path[row.path]
    if row.split not in splits:
        raise ValueError(
            f"split={make_printable(row.split)!r}: must be {' or '.join(splits)}, the splits of {source.info.name}"
        )
    count = len(splits[row.split])
    if row.split == "test" and not count:  # in a search, which reads no test images
        return []
    if not (row.index.isascii() and row.index.isdigit() and len(row.index) < 19 and int(row.index) < count):
        raise ValueError(
            f"index={make_printable(row.index)!r}: must be a whole number from 0 to {count - 1} in {row.split}"
        )
    return [(row.split, int(row.index))]


def _suggest_path(row: ListedImage, source: Source) -> str:
    if source.paths is None or not row.path or row.path in source.paths.names:
        return ""
    near = find_nearest(row.path, map(to_unicode, source.paths.names[:MOST_COMPARED]))
    return f". Did you mean {make_printable(near)!r}?" if near else ""


def _check_hash(row: ListedImage, split: Split, index: int) -> None:
    own = int(_get_marks(split)[index, FILE]).to_bytes(8, "little", signed=True).hex()
    if row.hash and row.hash.lower() != own:
        what = row.path or f"image {row.index} of {row.split}"
        raise ValueError(
            f"the list is of other data: {make_printable(what)} has the hash {own}, not {make_printable(row.hash)!r}"
        )
