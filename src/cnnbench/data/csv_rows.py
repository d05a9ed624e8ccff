"""The rows of a CSV file of anybody's: any usual delimiter and line end, with or without a byte order mark."""

import csv
from collections.abc import Iterator
from itertools import islice
from typing import TextIO

DELIMITERS = (",", "\t", ";", " ")
_LOOKED_AT = 3  # lines that tell the delimiter


def read_rows(file: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line it begins on; a quoted cell may go over several lines.

    Where commas do not separate the cells, numbers may have a decimal comma.

    Args:
        name: how an error names the file.

    Raises:
        ValueError: it is no CSV file in UTF-8, or cannot be read.
    """
    try:
        with open(file, "rb") as raw:
            head = raw.read(4096)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
            raise ValueError(f"{name} is UTF-16, or no text: accepted is a CSV file in UTF-8 (in Excel: CSV UTF-8)")
        with open(file, encoding="utf-8-sig", newline="") as text:
            lines = list(islice((line for line in text if line.strip()), _LOOKED_AT))
            delimiter = max(DELIMITERS, key=lambda each: _likelihood(lines, each))
            text.seek(0)
            yield from _rows(text, delimiter)
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text: accepted is a CSV file in UTF-8 (in Excel: CSV UTF-8)") from None
    except csv.Error as error:
        raise ValueError(f"{name}, {error}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from None


def number_in(cell: str) -> float:
    """A number, whose decimals may stand after a comma.

    Raises:
        ValueError: it is none.
    """
    return float(cell.replace(",", ".", 1))


def _likelihood(lines: list[str], delimiter: str) -> tuple[int, int]:
    """How many lines are numbers and a label when they are cut this way, and else how many cells there are."""
    rows = [next(csv.reader([_cut(line, delimiter)], delimiter=delimiter)) for line in lines]
    signals = sum(len(row) > 1 and sum(not _is_number(cell) for cell in row) < 2 for row in rows)
    # Blanks are common in text, and separate nothing but numbers.
    return signals, 0 if signals or delimiter == " " else sum(map(len, rows))


def _is_number(cell: str) -> bool:
    try:
        number_in(cell)
    except ValueError:
        return False
    return True


def _rows(text: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((_cut(line, delimiter) for line in text), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}") from None
        if row is None:
            return
        if len(row) > 1 or any(cell.strip() for cell in row):
            yield line, row


def _cut(line: str, delimiter: str) -> str:
    """Between numbers there may be several blanks."""
    return " ".join(line.split()) if delimiter == " " else line
