"""CSV tables that are safe to open in a spreadsheet, and read back exactly."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.storage.atomic import write_text
from cnnbench.storage.regular import read_bytes, refuse_damaged

LARGEST_CSV = 32 * 2**20
# A spreadsheet takes a cell that starts with one of these, also in its full-width form, for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escape_formula(value: object) -> object:
    """Protect a cell from being computed by a spreadsheet: text that looks like a formula gets an apostrophe in front.

    Numbers, also in text, stay as they are. `unescape_formula` removes exactly the apostrophes added here.
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def unescape_formula(cell: str) -> str:
    """The text that `escape_formula` turned into a cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    # An apostrophe in front of a formula would be taken for one of ours, so it is escaped too.
    return text.lstrip("'").startswith(FORMULA) and not _NUMBER.fullmatch(text)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows atomically, under a header of all their keys in order of first appearance."""
    write_text(path, format_csv(rows))


def format_csv(rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    """Rows as CSV text, with or without their header."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines: list[list[Any]] = [keys] if header else []
    lines += [[row.get(key) for key in keys] for row in rows]
    return "".join(map(format_csv_row, lines))


def format_csv_row(cells: Iterable[Any]) -> str:
    r"""A row of CSV text, ended by \n; None becomes an empty cell, and no cell a formula."""
    line = io.StringIO(newline="")
    # With "\n" as the line end, Python 3.11's writer would not quote a carriage return inside a cell.
    csv.writer(line, lineterminator="\r\n").writerow(map(escape_formula, cells))
    return line.getvalue().removesuffix("\r\n") + "\n"


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as dicts by column; a row that is too short has fewer keys.

    Raises:
        ValueError: not CSV in UTF-8, or a row has more cells than the header.
    """
    return parse_csv(read_bytes(path, LARGEST_CSV), path)


def parse_csv(content: bytes, path: Path) -> list[dict[str, str]]:
    """What `read_csv` returns, from the content of the file `path`."""
    header, *rows = [row for row in _parse_cells(content, path) if row] or [[]]
    if any(len(row) > len(header) for row in rows):
        refuse_damaged(path, "a row has more cells than the header")
    return [dict(zip(header, row, strict=False)) for row in rows]


def read_csv_cells(path: Path) -> list[list[str]]:
    """The rows of a CSV file, header included, as lists of cells.

    Raises:
        ValueError: not CSV in UTF-8.
    """
    return _parse_cells(read_bytes(path, LARGEST_CSV), path)


def _parse_cells(content: bytes, path: Path) -> list[list[str]]:
    try:
        text = io.StringIO(content.decode(), newline="")
        return [[unescape_formula(cell) for cell in row] for row in csv.reader(text)]
    except (csv.Error, UnicodeDecodeError) as error:
        refuse_damaged(path, error)
