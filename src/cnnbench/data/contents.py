"""The content of splits: its hash, and images that occur more than once."""

import hashlib
import json
from collections.abc import Callable, Mapping

import numpy as np

from cnnbench.data.dataset import FILE, PLACE, VALUES, DatasetInfo, Split
from cnnbench.data.files.listing import Paths
from cnnbench.storage.text import format_path, join_some

NAMED = 3  # images or classes that a note names


def digest(info: DatasetInfo, *splits: Split | None, column: int = FILE) -> str:
    """The SHA-256 of the class names and of some splits' images and labels, in order.

    Args:
        column: `FILE` for the files on disk; `VALUES` for what the network sees, which depends on the image size.
    """
    found = hashlib.sha256(json.dumps(info.class_names).encode())
    for split in splits:
        if split is not None:
            assert split.marks is not None
            found.update(split.marks[:, column].numpy().astype("<i8").tobytes())
            found.update(split.labels.numpy().astype("<i8").tobytes())
    return found.hexdigest()


def find_duplicates(info: DatasetInfo, splits: Mapping[str, Split], paths: Paths | None) -> list[str]:
    """A sentence on equal images in each two splits, and one on those with two labels.

    Args:
        splits: by their names, `train` first.
    """
    marks = np.concatenate([split.marks.numpy() for split in splits.values() if split.marks is not None])
    kinds, kind = np.unique(marks[:, VALUES], return_inverse=True)
    if len(kinds) == len(marks):
        return []
    labels = np.concatenate([split.labels.numpy() for split in splits.values()])
    where = np.repeat(np.arange(len(splits)), [len(split) for split in splits.values()])
    what, found = ("images" if info.dimensions == 2 else "signals"), list(splits)

    def name_row(row: int) -> str:
        if paths is not None:
            return repr(format_path(paths[marks[row, PLACE]]))
        return f"number {marks[row, PLACE] + 1} of {found[where[row]]}"

    notes = []
    for late in range(len(found) - 1, 0, -1):
        for early in range(late):
            first = np.full(len(kinds), -1)
            rows = np.flatnonzero(where == early)[::-1]
            first[kind[rows]] = rows
            leaked = [row for row in np.flatnonzero(where == late).tolist() if first[kind[row]] >= 0]
            if leaked:
                shown = [f"{name_row(row)} is the same as {name_row(first[kind[row]])}" for row in leaked[:NAMED]]
                total = len(splits[found[late]])
                notes.append(
                    f"{len(leaked)} of {total} {found[late]} {what} are also in {found[early]}, so figures on "
                    f"{found[late]} are too good: {join_some(shown, NAMED, '; ', total=len(leaked))}"
                )
    notes += _find_two_labels(info, kind, labels, name_row, what)
    return notes


def _find_two_labels(
    info: DatasetInfo, kind: np.ndarray, labels: np.ndarray, name_row: Callable[[int], str], what: str
) -> list[str]:
    pairs, firsts = np.unique(np.stack((kind, labels), 1), axis=0, return_index=True)
    several, start, count = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    several, start = several[count > 1], start[count > 1]
    if not len(several):
        return []
    names = [repr(format_path(name)) for name in info.class_names]
    shown = [
        " and ".join(f"{name_row(row)} is {names[labels[row]]}" for row in firsts[at : at + 2]) for at in start[:NAMED]
    ]
    return [f"{len(several)} {what} have more than one label each: {join_some(shown, NAMED, '; ', total=len(several))}"]
