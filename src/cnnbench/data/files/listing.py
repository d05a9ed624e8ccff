r"""The image files of a folder, with their classes and splits, in an order that is always the same.

Classes are sorted by name as text ("10" before "2"), as in torchvision's ImageFolder. The files of a split are sorted
by their path below the class folder, byte by byte, and files with the same path by class: images saved as
`train/<class>/<index>.png`, with indices of equal length, are in the order of their indices.

Every file below a class folder counts, at any depth, except those that `walking.py` leaves out. `split_names.py` says
which folders are splits. No file is opened here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import numpy as np

from cnnbench.data.files.labels import describe_alike, hint_at_alike, normalize_label
from cnnbench.data.files.split_names import choose_split_folders, parse_split, refuse_ambiguous
from cnnbench.data.files.walking import has_image_ending, holds_only_ours, is_litter, leads_to_folder, scan, walk_files
from cnnbench.storage.text import format_path, join_some

SHOWN = 5  # names in an error
File = tuple[str, str]  # path and class


class Paths(Sequence[str]):
    """Paths below a folder, whose own path is kept once and not in each name."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        return os.path.join(self.root, self.names[row])


@dataclass
class Listing:
    """Image files with their classes and splits."""

    path: str  # the folder or CSV file
    root: str  # the folder from which `paths` start
    class_names: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)  # one split after the other, as `os.fsdecode` returns them
    labels: list[int] = field(default_factory=list)
    splits: dict[str, range] = field(default_factory=dict)  # the rows of each split
    # int64 (N, 4): size, mtime and ctime (ns), inode; zeros if there is no such file.
    versions: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.int64))
    # The classes of the run that is measured on the images, which may lack some, and a split to train on.
    wanted: Sequence[str] | None = None
    ignored: list[str] = field(default_factory=list)  # what lies beside the classes and splits
    remarks: list[str] = field(default_factory=list)  # what a user should know of how the files were read
    cut: tuple[float, int] | None = None  # share and seed of a test split that was cut from the other images

    def make_paths(self, rows: range) -> Paths:
        """The paths in some rows, from the root."""
        return Paths(self.root, self.paths[rows.start : rows.stop])

    def fill(self, files: Mapping[str, Sequence[File]], what: str) -> None:
        """Add the files of each split, in their order; `what` names the classes in errors, such as "class folders".

        Raises:
            ValueError: no classes, a single one, or one that train or the run lacks.
        """
        where = f"data.path={format_path(self.path)!r}"
        classes = {split: {label for _, label in files.get(split, ())} for split in ("train", "val", "test")}
        if self.wanted is None:
            if not classes["train"]:
                raise ValueError(f"{where} holds no images to train on: it has no {what}")
            for split in ("val", "test"):
                if lacking := sorted(classes[split] - classes["train"]):
                    hint = hint_at_alike(lacking, classes["train"])
                    raise ValueError(
                        f"{where}: {_name_classes(lacking)} in {split}, but not in train: "
                        f"{split} may only have train's classes{hint}"
                    )
            self.class_names = tuple(sorted(classes["train"]))
        else:
            found = set().union(*classes.values())
            if not found:
                raise ValueError(f"{where} holds no images: it has no {what}")
            if more := sorted(found - {*self.wanted}):
                fewer = [name for name in self.wanted if name not in found]
                lacking_too = f", and lacks {_join(fewer)}, which the run was trained on" if fewer else ""
                raise ValueError(
                    f"{where} does not fit the run: it has {_join(more)}, which the run lacks{lacking_too}"
                    f"{hint_at_alike(more, self.wanted)}"
                )
            self.class_names = tuple(self.wanted)
        if len(self.class_names) < 2:
            raise ValueError(f"{where} has one class, {self.class_names[0]!r}: it needs at least 2 {what}")
        self.remarks += filter(None, [describe_alike(self.class_names)])
        number = {name: index for index, name in enumerate(self.class_names)}
        for split in (split for split, inside in classes.items() if inside):
            start = len(self.paths)
            self.paths += [path for path, _ in files[split]]
            self.labels += [number[label] for _, label in files[split]]
            self.splits[split] = range(start, len(self.paths))
        self.versions = np.array([_stat(os.path.join(self.root, path)) for path in self.paths], np.int64)


class ListedFiles(NamedTuple):
    """The files of a dataset, the colour below transparency, and the number of processes that decode."""

    listing: Listing
    background: tuple[int, int, int]
    workers: int


def _stat(path: str) -> tuple[int, int, int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the decoder will say what is wrong
        return 0, 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def list_folder(root: str, classes: Sequence[str] | None = None) -> Listing:
    """The files of `DIR/train/<class>/…` with val and test, or of `DIR/<class>/…`.

    Raises:
        ValueError: no classes, an empty one, one that train lacks, or ambiguous splits.
    """
    listing = Listing(root, root, wanted=classes)
    where = f"data.path={format_path(root)!r}"
    folders, listing.ignored = _list_folders(root, "")
    splits = _find_splits(where, folders, listing)
    if not splits and len(folders) == 1 and classes is None:
        raise ValueError(
            f"{where} has one class folder, {format_path(folders[0])!r}: it needs at least 2."
            f" If it holds them: data.path={format_path(os.path.join(root, folders[0]))}"
        )
    files: dict[str, list[File]] = {}
    for split, part in splits.items():
        inside, ignored = _list_folders(root, part)
        listing.ignored += ignored
        files[split] = _list_split(root, [f"{part}/{folder}" for folder in inside], where)
    if not splits:
        files["train"] = _list_split(root, folders, where)
    listing.fill(files, "class folders")
    return listing


def _list_split(root: str, folders: Sequence[str], where: str) -> list[File]:
    """The files in some class folders, in order."""
    found: list[tuple[bytes, str, str]] = []
    names: dict[str, str] = {}
    for folder in folders:
        name = name_class(os.path.basename(folder))
        if (other := names.setdefault(name, folder)) != folder:
            both = f"{format_path(other)!r} and {format_path(folder)!r}"
            raise ValueError(f"{where}: two class folders are both called {name!r}: {both}; keep one of them")
        paths = [f"{folder}/{path}" for path in walk_files(os.path.join(root, folder), _refuse_folder)]
        if not paths:
            raise ValueError(f"{where}: class folder {format_path(folder)!r} holds no images")
        # Bytes, because text with undecodable names has no order that all systems share.
        found += ((os.fsencode(path[len(folder) :]), name, path) for path in paths)
    return [(path, name) for _, name, path in sorted(found)]


def _find_splits(where: str, folders: Sequence[str], listing: Listing) -> dict[str, str]:
    """The folder of each split; empty if all folders are classes."""
    root = listing.root

    def is_flat(folder: str) -> bool:
        inside, beside = _list_folders(root, folder)
        return not inside and bool(beside)

    def has_images(folder: str) -> bool:
        return any(map(has_image_ending, walk_files(os.path.join(root, folder), _refuse_folder)))

    is_training = listing.wanted is None
    chosen = choose_split_folders(where, folders, is_flat=is_flat, has_images=has_images, needs_train=is_training)
    if chosen:
        listing.ignored += [name for name in folders if name not in chosen.values()]
    elif is_training:
        _doubt_classes(where, folders, listing)
    for split, folder in [*chosen.items()]:
        if is_flat(folder):
            listing.remarks.append(f"{folder!r} holds no class folders: it is not used for {split}")
            listing.ignored.append(chosen.pop(split))
            continue
        # Some archives hold seg_train/seg_train/<class>.
        while len(inner := _list_folders(root, folder)[0]) == 1 and (parse_split(inner[0]) or ("",))[0] == split:
            folder = f"{folder}/{inner[0]}"
        chosen[split] = folder
    return chosen


def _doubt_classes(where: str, folders: Sequence[str], listing: Listing) -> None:
    """Warn about class folders that all hold the same subfolders, as splits do; refuse those named like splits."""
    shared: set[str] | None = None
    for folder in folders:
        inner, beside = _list_folders(listing.root, folder)
        shared = {*inner} if shared is None else shared & {*inner}
        if len(shared) < 2 or any(map(has_image_ending, beside)):
            return
    if shared and len(folders) > 1:
        found = f"the same folders ({_join(sorted(shared))}) in each of its folders"
        if any(word in folder.casefold() for folder in folders for word in ("train", "test", "valid")):
            refuse_ambiguous(where, folders, f"has {found}")
        listing.remarks.append(
            f"it has {found}: {_join(folders)} are taken for classes; splits are called train, val, test"
        )


def name_class(folder: str) -> str:
    """The class that a folder is named for: its name as normalised text."""
    try:
        folder.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 become \xNN, and a backslash is doubled
        return os.fsencode(folder).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")
    return normalize_label(folder)


def _list_folders(root: str, part: str) -> tuple[list[str], list[str]]:
    """The names of the folders in a folder, and the paths of its other entries, both without litter."""
    where = os.path.join(root, part) if part else root
    try:
        entries = scan(where)
    except OSError as error:
        _refuse_folder(where, error.strerror or str(error))
    names, beside = [], []
    for entry in entries:
        if is_litter(entry.name):
            continue
        if leads_to_folder(entry) and not holds_only_ours(entry.path):
            names.append(entry.name)
        else:
            beside.append(f"{part}/{entry.name}" if part else entry.name)
    return names, beside


def _refuse_folder(where: str, reason: str) -> NoReturn:
    raise ValueError(f"data.path: {format_path(where)!r} cannot be read ({reason})")


def _join(names: Sequence[str]) -> str:
    return ", ".join(map(format_path, names[:SHOWN]))


def _name_classes(names: Sequence[str]) -> str:
    shown = join_some([repr(format_path(name)) for name in names], SHOWN)
    return f"class{'es' if len(names) > 1 else ''} {shown} {'are' if len(names) > 1 else 'is'}"
