r"""Which image files a folder or a CSV file names, their classes and splits, in an order that is always the same.

Order: classes by name, as Python sorts text ("10" before "2"; torchvision's ImageFolder does the same). The files of a
split by their path below the class folder, byte by byte, and files of the same path by class; the rows of a CSV file
as they stand. So `train/<class>/<index>.png` with indices of equal length comes in the order of the indices.

What counts: every file below a class folder, however deep, but for what `left_out.py` leaves out. Links are followed,
and a folder that is reached twice counts once. Which folders are splits: `split_names.py`. Nothing is opened here.
"""

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from cnnbench.data.files.labels import describe_alike, hint_at_alike, normalize_label
from cnnbench.data.files.left_out import has_image_ending, holds_only_ours, is_litter, leads_to_folder, walk_files
from cnnbench.data.files.split_names import parse_split, refuse, split_folders
from cnnbench.storage.text import format_path

SHOWN = 5  # names that an error lists
File = tuple[str, str]  # path and class


@dataclass
class Listing:
    """Image files with their classes and splits.

    Attributes:
        path: the folder or CSV file.
        root: the folder that `paths` start from.
        paths: in order, those of a split one after the other; as `os.fsdecode` gives them.
        labels: of each path, an index into `class_names`.
        splits: for each split, which paths are its own; `train` is always there.
        versions: int64, (N, 4): size, times (ns) of the last change of the content and of anything, inode; zeros where
            there is no such file.
        wanted: the classes of a run that is to be measured on the images: some may be missing, and a split to train on.
        ignored: what lies beside the classes and splits, and is none of them.
        remarks: what a user should know of how they were read.
    """

    path: str
    root: str
    class_names: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    splits: dict[str, range] = field(default_factory=dict)
    versions: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.int64))
    wanted: Sequence[str] | None = None
    ignored: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def full_paths(self, rows: range) -> "Paths":
        """The paths in some rows, from the root."""
        return Paths(self.root, self.paths[rows.start : rows.stop])


class Paths(Sequence[str]):
    """Paths below a folder, without a copy of its name in each."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        return os.path.join(self.root, self.names[row])


def list_folder(root: str, classes: Sequence[str] | None = None) -> Listing:
    """The files of `DIR/train/<class>/…` with its val and test, or of `DIR/<class>/…`.

    Raises:
        ValueError: no classes, an empty one, one that train lacks, or splits that cannot be told apart.
    """
    listing = Listing(root, root, wanted=classes)
    where = f"data.path={format_path(root)!r}"
    folders = _list_folders(root, "", listing)
    splits = _find_splits(root, folders, listing)
    if not splits and len(folders) == 1 and classes is None:
        raise ValueError(
            f"{where} has one class folder, {format_path(folders[0])!r}: accepted are at least 2."
            f" If it holds them: data.path={format_path(os.path.join(root, folders[0]))}"
        )
    files: dict[str, list[File]] = {}
    for split, part in splits.items() if splits else [("train", "")]:
        # Tuples that sort as the files shall.
        inside: list[tuple[bytes, str, str]] = []
        names: dict[str, str] = {}
        for folder in _list_folders(root, part, listing) if part else folders:
            place, name = f"{part}/{folder}" if part else folder, name_class(folder)
            if (other := names.setdefault(name, place)) != place:
                both = f"{format_path(other)!r} and {format_path(place)!r}"
                raise ValueError(
                    f"{where}: two class folders are both called {name!r}: {both}; accepted is one of them"
                )
            before = len(inside)
            paths = (f"{place}/{path}" for path in walk_files(os.path.join(root, place), _refuse_folder))
            inside += ((os.fsencode(path[len(place) :]), name, path) for path in paths)
            if len(inside) == before:
                raise ValueError(f"{where}: class folder {format_path(place)!r} holds no images")
        inside.sort()
        files[split] = [(path, name) for _, name, path in inside]
    return fill_listing(listing, files, "class folders")


def _find_splits(root: str, folders: Sequence[str], listing: Listing) -> dict[str, str]:
    """The folder of each split that has class folders; empty where all of them are classes."""

    def is_flat(folder: str) -> bool:
        beside = Listing(root, root)
        return not _list_folders(root, folder, beside) and bool(beside.ignored)

    def has_images(folder: str) -> bool:
        return any(map(has_image_ending, walk_files(os.path.join(root, folder), _refuse_folder)))

    where, whole = f"data.path={format_path(root)!r}", listing.wanted is None
    chosen = split_folders(where, folders, is_flat=is_flat, has_images=has_images, needs_train=whole)
    if chosen:
        listing.ignored += [name for name in folders if name not in chosen.values()]
    elif whole:
        _doubt_classes(where, folders, listing)
    for split, folder in [*chosen.items()]:
        if is_flat(folder):
            listing.remarks.append(f"{folder!r} holds no class folders: it is not used for {split}")
            listing.ignored.append(chosen.pop(split))
            continue
        # Some archives hold seg_train/seg_train/<class>.
        while len(inner := _list_folders(root, folder, Listing(root, root))) == 1 and _is_split(inner[0], split):
            folder = f"{folder}/{inner[0]}"
        chosen[split] = folder
    return chosen


def _doubt_classes(where: str, folders: Sequence[str], listing: Listing) -> None:
    """Note class folders that hold nothing but the same folders, as splits do; refuse those named like splits."""
    shared: set[str] | None = None
    for folder in folders:
        beside = Listing(listing.path, listing.root)
        inner = {*_list_folders(listing.root, folder, beside)}
        shared = inner if shared is None else shared & inner
        if len(shared) < 2 or any(map(has_image_ending, beside.ignored)):
            return
    if shared and len(folders) > 1:
        found = f"the same folders ({', '.join(map(format_path, sorted(shared)[:SHOWN]))}) in each of its folders"
        if any(word in folder.casefold() for folder in folders for word in ("train", "test", "valid")):
            refuse(where, folders, f"has {found}")
        named = ", ".join(format_path(folder) for folder in folders[:SHOWN])
        listing.remarks.append(f"it has {found}: {named} are taken for classes; splits are called train, val and test")


def _is_split(folder: str, split: str) -> bool:
    found = parse_split(folder)
    return found is not None and found[0] == split


def fill_listing(listing: Listing, files: Mapping[str, Sequence[File]], what: str) -> Listing:
    """Fill a listing with the files of each split, in their order.

    Args:
        what: what names a class here, for the message that there is none.

    Raises:
        ValueError: no classes, one alone, or one that train lacks.
    """
    name = f"data.path={format_path(listing.path)!r}"
    classes = {split: {label for _, label in files.get(split, ())} for split in ("train", "val", "test")}
    if not classes["train"] and listing.wanted is None:
        raise ValueError(f"{name} holds no images to train on: it has no {what}")
    if listing.wanted is not None:
        _refuse_unknown_classes(name, listing.wanted, set().union(*classes.values()), what)
    for split in ("val", "test") if listing.wanted is None else ():
        if lacking := sorted(classes[split] - classes["train"]):
            hint = hint_at_alike(lacking, classes["train"])
            raise ValueError(
                f"{name}: {_name_classes(lacking)} in {split}, but not in train: accepted are train's classes{hint}"
            )
    listing.class_names = tuple(sorted(classes["train"]) if listing.wanted is None else listing.wanted)
    if len(listing.class_names) < 2:
        raise ValueError(f"{name} has one class, {listing.class_names[0]!r}: accepted are at least 2 {what}")
    if note := describe_alike(listing.class_names):
        listing.remarks.append(note)
    number = {name: index for index, name in enumerate(listing.class_names)}
    for split in (split for split, inside in classes.items() if inside):
        start = len(listing.paths)
        listing.paths += [path for path, _ in files[split]]
        listing.labels += [number[label] for _, label in files[split]]
        listing.splits[split] = range(start, len(listing.paths))
    listing.versions = np.zeros((len(listing.paths), 4), np.int64)
    for path, version in zip(listing.paths, listing.versions, strict=True):
        try:
            found = os.stat(os.path.join(listing.root, path))
            version[:] = found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
        except (OSError, ValueError):  # the decoder will say what is wrong
            continue
    return listing


def _refuse_unknown_classes(name: str, wanted: Sequence[str], found: Set[str], what: str) -> None:
    """Refuse images of classes that a run has not, or none at all."""
    if not found:
        raise ValueError(f"{name} holds no images: it has no {what}")
    if more := sorted(found - {*wanted}):
        fewer = [one for one in wanted if one not in found]
        lacking = f" and not {', '.join(map(format_path, fewer[:SHOWN]))}, which it was trained on" if fewer else ""
        shown = ", ".join(map(format_path, more[:SHOWN]))
        raise ValueError(
            f"{name} does not fit the run: it has {shown}, which the run has not{lacking}{hint_at_alike(more, wanted)}"
        )


def name_class(folder: str) -> str:
    r"""A folder's name as text in its normal form: bytes that are not UTF-8 become \xNN, and a backslash is doubled."""
    try:
        folder.encode()
    except UnicodeEncodeError:
        return os.fsencode(folder).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")
    return normalize_label(folder)


def _list_folders(root: str, part: str, listing: Listing) -> list[str]:
    """The folders in one folder, sorted, without litter; what else is there is noted as ignored."""
    where = os.path.join(root, part) if part else root
    try:
        with os.scandir(where) as inside:
            entries = sorted(inside, key=lambda entry: entry.name)
    except OSError as error:
        _refuse_folder(where, error.strerror or str(error))
    names = []
    for entry in entries:
        if is_litter(entry.name):
            continue
        if leads_to_folder(entry) and not holds_only_ours(entry.path):
            names.append(entry.name)
        else:
            listing.ignored.append(f"{part}/{entry.name}" if part else entry.name)
    return names


def _refuse_folder(where: str, reason: str) -> NoReturn:
    raise ValueError(f"data.path: {format_path(where)!r} cannot be read ({reason})")


def _name_classes(names: Sequence[str]) -> str:
    shown = ", ".join(repr(format_path(name)) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"class{'es' if len(names) > 1 else ''} {shown}{more} {'are' if len(names) > 1 else 'is'}"
