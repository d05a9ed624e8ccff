"""Image files listed in a CSV file with the columns `path` and `label`, and optionally `split`."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NoReturn

from cnnbench.data.files.csv_rows import read_rows
from cnnbench.data.files.labels import find_label_problem, normalize_label, unify_labels
from cnnbench.data.files.listing import File, Listing
from cnnbench.data.files.split_names import WORDS, parse_split
from cnnbench.storage.text import format_path, join_some

SHOWN_ROWS = 5  # bad rows in an error, or files in a note


def list_csv(file: str, classes: Sequence[str] | None = None) -> Listing:
    """The files that a CSV file in UTF-8 names, in the order of its rows; its first row names the columns.

    Paths start from the CSV's own folder. They may lead out of it, because the files are only ever decoded as images.

    Raises:
        ValueError: the columns are missing, rows lack a value, none of the files exists, or as `Listing.fill`.
    """
    name = f"data.path={format_path(file)!r}"
    root = os.path.dirname(os.path.abspath(file))
    files: dict[str, list[File]] = {}
    problems: list[str] = []
    rows = read_rows(file, name)
    columns = [cell.strip().casefold() for cell in next(rows, (0, []))[1]]
    if missing := [column for column in ("path", "label") if column not in columns]:
        raise ValueError(f"{name} has no column {missing[0]!r}: the first row must be path,label[,split]")
    find = _make_finder(root)
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))
        if problem := "has more values than the first row" if len(cells) > len(columns) else _find_problem(row):
            problems.append(f"line {line}: {problem}")
        else:
            split, _ = parse_split(row.get("split", "")) or ("train", ())
            files.setdefault(split, []).append((find(row["path"]), row["label"]))
    if problems:
        wrong = "1 row is" if len(problems) == 1 else f"{len(problems):,} rows are"
        raise ValueError(f"{name}, {wrong} wrong: {join_some(problems, SHOWN_ROWS, '; ')}")
    forms = unify_labels(label for inside in files.values() for _, label in inside)
    files = {split: [(path, forms[label]) for path, label in inside] for split, inside in files.items()}
    listing = Listing(file, root, wanted=classes)
    listing.fill(files, "labels")
    if not listing.versions.any():
        _refuse_missing(name, listing)
    counts = Counter(map(os.path.normpath, listing.paths))
    if repeated := [repr(format_path(path)) for path, count in counts.items() if count > 1]:
        subject = "1 file is" if len(repeated) == 1 else f"{len(repeated):,} files are"
        names = join_some(repeated, SHOWN_ROWS)
        listing.remarks.append(f"{subject} listed more than once, and each row counts as an image: {names}")
    return listing


def _find_problem(row: dict[str, str]) -> str | None:
    """What is wrong with a row; None if nothing is."""
    if not row.get("path", "").strip():
        return "path is empty"
    if problem := find_label_problem(row.get("label", "")):
        return f"label {problem}"
    found = parse_split(row["split"]) if "split" in row else ("train", ())
    if found is None or found[1]:
        return f"split={row['split']!r}, must be one of {', '.join(WORDS)}"
    return None


def _make_finder(root: str) -> Callable[[str], str]:
    """A function that finds the file that a path means; if none or several match, it returns the path unchanged.

    Where there is no such file, the path is read as on Windows: with backslashes, and in any case.
    """

    @lru_cache(maxsize=64)
    def index_names(folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        try:
            for entry in os.listdir(os.path.join(root, folder)):
                names.setdefault(normalize_label(entry).casefold(), []).append(entry)
        except (OSError, ValueError):  # a null byte in the path
            pass
        return names

    def find(path: str) -> str:
        for other in (path, path.strip(), path.strip().replace("\\", "/")):
            if os.path.lexists(os.path.join(root, other)):
                return other
        found = "/" if other.startswith("/") else ""
        for part in other.split("/"):
            nearest = index_names(found).get(normalize_label(part).casefold(), [])
            if part not in ("", ".", "..") and not os.path.lexists(os.path.join(root, found, part)):
                if len(nearest) != 1:
                    return path
                part = nearest[0]
            found = os.path.join(found, part)
        return found

    return find


def _refuse_missing(name: str, listing: Listing) -> NoReturn:
    first = listing.paths[0]
    hint = "Paths start from the CSV file's own folder"
    if os.path.lexists(first):
        hint += ", but this one exists in the current folder: move the CSV file there, or change its paths"
    elif re.match(r"[A-Za-z]:[\\/]|\\\\", first):
        hint += ", but this one names a drive of Windows: make it relative"
    raise ValueError(
        f"{name}: none of its {len(listing.paths)} files exists. The first is "
        f"{format_path(os.path.join(listing.root, first))!r}. {hint}"
    )
