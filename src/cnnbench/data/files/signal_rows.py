"""The rows of a table of signals: the values of each and its label, in the first, the last or a named column."""

from array import array
from dataclasses import dataclass, field

import numpy as np

from cnnbench.data.files.csv_rows import read_rows
from cnnbench.data.files.labels import find_label_problem
from cnnbench.storage.text import join_some

SHOWN_ROWS = 5  # bad rows in an error
NAMES_HINT = " (if it holds column names: data.header=true)"
LABEL_NAMES = ("label", "labels", "class", "target", "y")  # what a header calls the label


@dataclass
class Table:
    """The rows read so far."""

    header: list[str] = field(default_factory=list)  # the names of the columns, if the file has them
    columns: int = 0  # in every row, the label's included
    label_at: int = -1  # the index of the label's column
    # All signals one after the other, in float32: a list of Python numbers would take eight times the memory.
    values: "array[float]" = field(default_factory=lambda: array("f"))
    labels: list[str] = field(default_factory=list)


def read_table(file: str, name: str, *, header: bool, label: str, columns: int = 0) -> Table:
    """All signals of a file, which errors call `name`.

    Args:
        header: whether the first row holds column names.
        label: `first`, `last`, or the name of its column.
        columns: values that a row must have; 0 is as many as the first.

    Raises:
        ValueError: it is not such a file, or a row is not a signal and its label.
    """
    table = Table(columns=columns)
    problems: list[str] = []  # of the first bad rows
    bad_rows = 0
    rows = read_rows(file, name)
    if header:
        _, table.header = next(rows, (0, []))
    found = _find_label(table.header, label, name)
    for line, row in rows:
        hint = "" if header or table.columns else NAMES_HINT
        table.columns = table.columns or len(row)
        table.label_at = found % max(1, table.columns)
        problem = _take_values(table, row)
        if problem is None:
            table.labels.append(row[table.label_at])
            continue
        bad_rows += 1
        if bad_rows <= SHOWN_ROWS:
            problems.append(f"line {line}{problem}{hint}")
    if bad_rows:
        shown = join_some(problems, SHOWN_ROWS, "; ", total=bad_rows)
        raise ValueError(f"{name}, {bad_rows} of {bad_rows + len(table.labels)} rows are wrong: {shown}")
    if not table.labels:
        raise ValueError(f"{name} has no rows{' below its header' if header else ''}: it needs one row per signal")
    return table


def clip(text: str) -> str:
    """Shorten a value for an error."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _find_label(header: list[str], label: str, name: str) -> int:
    """The index of the label in a row; negative if counted from the end."""
    names = [cell.strip() for cell in header]
    if label not in ("first", "last"):
        if names.count(label) == 1:
            return names.index(label)
        known = f"{', '.join(map(clip, names[:SHOWN_ROWS]))} …" if names else "a column's name with data.header=true"
        raise ValueError(f"data.label={label!r}: must be first, last, or one column of {name}: {known}")
    at = 0 if label == "first" else -1
    called = [column for column, cell in enumerate(names) if cell.casefold() in LABEL_NAMES]
    if called and names[at].casefold() not in LABEL_NAMES:
        raise ValueError(
            f"data.label={label}, but {name} calls column {called[0] + 1} {names[called[0]]!r}: use "
            f"data.label={names[called[0]]}, or data.label={clip(names[at])} to take that one"
        )
    return at


def _take_values(table: Table, row: list[str]) -> str | None:
    """Append a row's signal to the table; if the row is bad, only return the reason."""
    if len(row) < 2:
        return " has one value: it needs a signal's values and its label, separated by commas, semicolons or tabs"
    if len(row) != table.columns:
        return f" has {len(row)} values, expected {table.columns} as in the first row"
    at = table.label_at
    if problem := find_label_problem(row[at]):
        return f", column {at + 1}: the label {problem}"
    try:
        signal = array("f", map(float, row[:at] + row[at + 1 :]))
    except ValueError:
        return _describe_bad_cell(row, at)
    if not np.isfinite(np.frombuffer(signal, dtype=np.float32)).all():
        return _describe_bad_cell(row, at)
    table.values.extend(signal)
    return None


def _describe_bad_cell(row: list[str], label_at: int) -> str:
    for column, cell in enumerate(row):
        if column == label_at:
            continue
        try:
            (value,) = array("f", [float(cell)])
        except ValueError:
            return f", column {column + 1}: {clip(cell)} is not a number"
        if not np.isfinite(value):
            return f", column {column + 1}: {clip(cell)} is not a finite number of 32 bits"
    raise AssertionError("the row has such a cell")
