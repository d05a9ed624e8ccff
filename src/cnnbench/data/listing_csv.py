"""Image files named by the rows of a CSV file: `path,label`, and `split` if it has that column."""

import csv
import os

from cnnbench.data.listing import SPLITS, File, Listing, listed
from cnnbench.text import shown_name

SHOWN_ROWS = 5  # bad rows that an error describes


def list_csv(file: str) -> Listing:
    """The files that a CSV file in UTF-8 names, in the order of its rows; its first row names the columns.

    A path starts from the CSV's own folder. It may lead out of it, or be absolute: whoever gives the CSV chooses the
    files, and all that is done with them is to decode them as images.

    Raises:
        ValueError: no such columns, rows that lack a value, or as `listed`.
    """
    name = f"data.path={shown_name(file)!r}"
    files: dict[str, list[File]] = {}
    problems: list[str] = []
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text, strict=True)
            columns = rows.fieldnames or []
            if missing := [column for column in ("path", "label") if column not in columns]:
                raise ValueError(f"{name} has no column {missing[0]!r}: accepted is a first row of path,label[,split]")
            for row in rows:
                if problem := _problem(row, has_split="split" in columns):
                    problems.append(f"line {rows.line_num}: {problem}")
                else:
                    files.setdefault(SPLITS[row.get("split") or "train"], []).append((row["path"], row["label"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is no CSV file in UTF-8 ({error})") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from None
    if problems:
        more = f"; and {len(problems) - SHOWN_ROWS} more" if len(problems) > SHOWN_ROWS else ""
        raise ValueError(f"{name}, {len(problems)} rows are wrong: {'; '.join(problems[:SHOWN_ROWS])}{more}")
    return listed(Listing(file, os.path.dirname(os.path.abspath(file))), files, "labels")


def _problem(row: dict[str, str | None], *, has_split: bool) -> str | None:
    """What is wrong with a row, if anything."""
    if None in row:
        return "has more values than the first row"
    for column in ("path", "label"):
        if not (row[column] or "").strip():
            return f"{column} is empty"
    if has_split and row["split"] not in SPLITS:
        return f"split={row['split']!r}, accepted is {', '.join(SPLITS)}"
    return None
