"""The rows of a CSV file from any program: with any usual delimiter and line end, and any byte order mark of UTF-8."""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import islice

DELIMITERS = (",", "\t", ";", " ")
_DECIMAL_COMMA = re.compile(r"^(\s*[+-]?\d*),(\d+(?:[eE][+-]?\d+)?\s*)$", re.ASCII)
_LOOKED_AT = 3  # lines by which the delimiter is found


def read_rows(file: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line where it begins; errors call the file `name`.

    Raises:
        ValueError: it is no CSV file in UTF-8, or cannot be read.
    """
    try:
        with open(file, "rb") as raw:
            head = raw.read(64)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or any(
            half.count(0) > len(half) // 2 for half in (head[::2], head[1::2])
        ):
            raise ValueError(f"{name} is UTF-16 or not text: must be a CSV file in UTF-8 (in Excel: CSV UTF-8)")
        with open(file, encoding="utf-8-sig", newline="") as text:
            lines = list(islice((line for line in text if line.strip()), _LOOKED_AT))
            delimiter = max(DELIMITERS, key=lambda each: _rate(lines, each))
            text.seek(0)
            yield from _iterate_rows(text, delimiter)
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text: must be a CSV file in UTF-8 (in Excel: CSV UTF-8)") from None
    except csv.Error as error:
        raise ValueError(f"{name}, {error}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from None


def _rate(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Rate a delimiter by the lines that become numbers and a label, then by the cells that become numbers."""
    try:
        rows = [next(_iterate_rows([line], delimiter, strict=False), (0, [""]))[1] for line in lines]
    except csv.Error:
        return 0, 0
    numbers = [sum(map(_is_number, row)) for row in rows]
    signals = sum(len(row) > 1 and count >= len(row) - 1 for row, count in zip(rows, numbers, strict=True))
    if signals:
        return signals, sum(numbers)
    # Blanks are common in text, so they may separate only numbers.
    return 0, 0 if delimiter == " " else sum(map(len, rows))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _iterate_rows(text: Iterable[str], delimiter: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    # Columns of numbers may be aligned with several blanks.
    lines = (" ".join(line.split()) for line in text) if delimiter == " " else text
    reader = csv.reader(lines, delimiter=delimiter, strict=strict)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            problem = "a value is too long: is a quote missing?" if "field limit" in str(error) else error
            raise csv.Error(f"line {line}: {problem}") from None
        if row is None:
            return
        if len(row) > 1 or any(cell.strip() for cell in row):
            # Between semicolons, numbers may have a decimal comma, as Excel writes them in many countries.
            yield line, [_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row] if delimiter == ";" else row
