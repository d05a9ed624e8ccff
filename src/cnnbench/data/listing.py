r"""Which image files a folder or a CSV file names, their classes and splits, in an order that is always the same.

Order: classes by name, as Python sorts text ("10" before "2"; torchvision's ImageFolder does the same). The files of a
split by their path below the class folder, byte by byte, and files of the same path by class; the rows of a CSV file
as they stand. So `train/<class>/<index>.png` with indices of equal length comes in the order of the indices.

What counts: every file below a class folder, however deep, unless its name or one of its folders starts with a dot.
Links are followed, and a folder that is reached twice counts once. Nothing is opened here.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnbench.text import shown_name

SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
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
        ignored: what lies beside the classes and splits, and is none of them.
    """

    path: str
    root: str
    class_names: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    splits: dict[str, range] = field(default_factory=dict)
    versions: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.int64))
    ignored: list[str] = field(default_factory=list)


def list_folder(root: str) -> Listing:
    """The files of `DIR/train/<class>/…` with its val and test, or of `DIR/<class>/…`.

    Raises:
        ValueError: no classes, an empty one, one that train lacks, or splits that cannot be told apart.
    """
    listing = Listing(root, root)
    folders = _folders(root, "", listing)
    found = [name for name in folders if name in SPLITS]
    if found and "train" not in found:
        raise ValueError(
            f"data.path={shown_name(root)!r} has a folder {found[0]!r} but none called 'train': accepted is "
            "train/<class>/… with val and test beside it, or <class>/…"
        )
    doubled = [name for name in found if SPLITS[name] == "val"]
    if len(doubled) > 1:
        raise ValueError(f"data.path={shown_name(root)!r} has {' and '.join(doubled)}: accepted is one of them")
    if found:
        listing.ignored += [name for name in folders if name not in SPLITS]
    if not found and len(folders) == 1:
        raise ValueError(
            f"data.path={shown_name(root)!r} has one class folder, {shown_name(folders[0])!r}: accepted are at least 2."
            f" If it holds them: data.path={shown_name(os.path.join(root, folders[0]))}"
        )
    files: dict[str, list[File]] = {}
    for part in found or [""]:
        # Tuples that sort as the files shall.
        inside: list[tuple[bytes, str, str]] = []
        names: dict[str, str] = {}
        for folder in _folders(root, part, listing) if part else folders:
            where, name = f"{part}/{folder}" if part else folder, class_name(folder)
            if names.setdefault(name, where) != where:
                raise ValueError(f"data.path={shown_name(root)!r}: two class folders are both called {name!r}")
            before = len(inside)
            inside += ((os.fsencode(path[len(where) :]), name, path) for path in _files_below(root, where))
            if len(inside) == before:
                raise ValueError(f"data.path={shown_name(root)!r}: class folder {shown_name(where)!r} holds no images")
        inside.sort()
        files[SPLITS.get(part, "train")] = [(path, name) for _, name, path in inside]
    return listed(listing, files, "class folders")


def listed(listing: Listing, files: Mapping[str, Sequence[File]], what: str) -> Listing:
    """Fill a listing with the files of each split, in their order.

    Args:
        what: what names a class here, for the message that there is none.

    Raises:
        ValueError: no classes, one alone, or one that train lacks.
    """
    name = f"data.path={shown_name(listing.path)!r}"
    classes = {split: {label for _, label in files.get(split, ())} for split in ("train", "val", "test")}
    if not classes["train"]:
        raise ValueError(f"{name} holds no images to train on: it has no {what}")
    for split in ("val", "test"):
        if lacking := sorted(classes[split] - classes["train"]):
            raise ValueError(f"{name}: {_named(lacking)} in {split}, but not in train: accepted are train's classes")
    listing.class_names = tuple(sorted(classes["train"]))
    if len(listing.class_names) < 2:
        raise ValueError(f"{name} has one class, {listing.class_names[0]!r}: accepted are at least 2 {what}")
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


def class_name(folder: str) -> str:
    r"""A folder's name as text: bytes that are not UTF-8 become \xNN, and then a backslash is doubled."""
    try:
        folder.encode()
    except UnicodeEncodeError:
        return os.fsencode(folder).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")
    return folder


def _folders(root: str, part: str, listing: Listing) -> list[str]:
    """The folders in one folder, sorted; files beside them are noted as ignored."""
    names = []
    for entry in _visible(root, part):
        if _is_folder(entry):
            names.append(entry.name)
        else:
            listing.ignored.append(f"{part}/{entry.name}" if part else entry.name)
    return names


def _files_below(root: str, where: str) -> Iterator[str]:
    """The path of everything below a class folder that is no folder and not hidden."""
    seen: set[tuple[int, int]] = set()
    waiting = [where]
    while waiting:
        folder = waiting.pop()
        found = os.stat(os.path.join(root, folder))
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        for entry in reversed(_visible(root, folder)):
            path = f"{folder}/{entry.name}"
            if _is_folder(entry):
                waiting.append(path)
            else:
                yield path


def _visible(root: str, folder: str) -> list[os.DirEntry[str]]:
    where = os.path.join(root, folder) if folder else root
    try:
        with os.scandir(where) as inside:
            return sorted((entry for entry in inside if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"data.path: {shown_name(where)!r} cannot be read ({error.strerror})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead round in a circle
        return False


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(shown_name(name)) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"class{'es' if len(names) > 1 else ''} {shown}{more} {'are' if len(names) > 1 else 'is'}"
