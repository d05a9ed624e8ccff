"""One's own signals from a CSV file: a row a signal, its values and, last, its label."""

import csv
import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.hashing import hashes_of
from cnnbench.data.preparation import cut_test
from cnnbench.registry import register
from cnnbench.text import shown_name

FEWEST_NUMBERED = 5  # rows; fewer may count up by chance
SHOWN_ROWS = 5  # bad rows that an error describes
NAMES_HINT = " (if it holds column names: data.header=true)"


@dataclass
class _Table:
    """The rows read so far.

    Attributes:
        header: the names of the columns, if the file gives them.
        columns: values of the first row, its label among them; every row must have as many.
        values: float32, all signals one after the other; a list of Python numbers would take eight times the memory.
        problems: what is wrong with the first bad rows.
        bad_rows: how many there are.
    """

    header: list[str] = field(default_factory=list)
    columns: int = 0
    values: "array[float]" = field(default_factory=lambda: array("f"))
    labels: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bad_rows: int = 0


@register("data", "csv_signals")
def csv_signals(
    root: str,
    download: bool,
    path: str | None,
    header: bool,
    test_fraction: float | None,
    split_seed: int = 0,
    classes: list[str] | None = None,
) -> Source:
    """Signals of one channel from a UTF-8 file of comma-separated values; the last value of a row is its label.

    The classes are the different labels in order; in that of their numbers, if all are whole numbers.

    Args:
        root, download: not used; `path` says it all.
        header: whether the first row holds column names.
        test_fraction: share of each class in the test split; the same rows whatever the run's seed; None cuts none.
        split_seed: which share.
        classes: those of a run that is to be measured on the signals, which may lack some.

    Raises:
        ValueError: no such file, rows that are not a signal and its label, or too few rows of a class.
    """
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction={test_fraction}: accepted is a number above 0 and below 1")
    file = _regular_file(path)
    table = _read(file, header)
    signals = torch.from_numpy(np.frombuffer(table.values, dtype=np.float32)).view(len(table.labels), 1, -1)
    names = _in_order(set(table.labels)) if classes is None else _known_names(file, table.labels, classes)
    if len(names) < 2:
        raise ValueError(
            f"data.path={str(file)!r} has one class, {_clipped(names[0])}: accepted are at least 2, named in the "
            "last column"
        )
    number = {name: index for index, name in enumerate(names)}
    labels = torch.tensor([number[label] for label in table.labels])
    hashes = torch.from_numpy(hashes_of(signals.numpy()))
    contents = (row.tobytes() for row in hashes.numpy().astype("<i8"))
    info = DatasetInfo("csv_signals", in_channels=1, image_size=signals.shape[-1], class_names=names, dimensions=1)
    rows = Split(signals, labels, None, torch.stack((hashes, hashes, torch.arange(len(labels))), 1))
    notes = _index_columns(file, table, signals)
    if test_fraction is None:
        return Source(info, rows, None, notes=notes)
    test, train = cut_test(labels, contents, test_fraction, split_seed)
    if problem := _one_sided(names, labels, labels[test]):
        alone = not header and table.labels.count(table.labels[0]) == 1
        raise ValueError(
            f"data.path={str(file)!r}, data.test_fraction={test_fraction}: {problem}. Accepted are more rows of a "
            f"class, or another fraction{'; the first row is alone in its class' + NAMES_HINT if alone else ''}"
        )
    return Source(info, rows[train], rows[test], notes=notes)


def _index_columns(file: Path, table: _Table, signals: Tensor) -> tuple[str, ...]:
    """A note on the columns that only number the rows: whoever sorted them by class gives the label away."""
    steps = signals[1:, 0] - signals[:-1, 0]
    counting = torch.nonzero((steps == 1).all(0) & (signals[0, 0] % 1 == 0)).flatten().tolist()
    if len(signals) < FEWEST_NUMBERED or not counting:
        return ()
    names = [f"{column + 1}{f' ({_clipped(table.header[column])})' if table.header else ''}" for column in counting]
    return (
        f"{shown_name(file)}: column {', '.join(names[:SHOWN_ROWS])} only numbers the rows, and is taken as a part of "
        "the signals: leave it out of the file",
    )


def _regular_file(path: str | None) -> Path:
    """The path of a file that may be opened: reading a pipe or a device might never end."""
    if not path:
        raise ValueError(
            f"data.path={'null' if path is None else repr(path)}: accepted is a CSV file, each row the values of a "
            "signal and, last, its label"
        )
    file = Path(os.path.expanduser(path))
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"data.path={path!r} cannot be read ({reason}): looked for {str(file.absolute())!r}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
        raise ValueError(f"data.path={path!r} is {kind}: accepted is a CSV file")
    return file


def _read(file: Path, header: bool) -> _Table:
    table, name = _Table(), f"data.path={str(file)!r}"
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            rows = _rows(text)
            if header:
                _, table.header = next(rows, (0, []))
            for line, row in rows:
                hint = "" if header or table.columns else NAMES_HINT
                table.columns = table.columns or len(row)
                _add(table, line, row, hint)
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text: accepted is a CSV file in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{name}, {error}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from None
    if table.bad_rows:
        more = f"; and {table.bad_rows - SHOWN_ROWS} more" if table.bad_rows > SHOWN_ROWS else ""
        total = table.bad_rows + len(table.labels)
        raise ValueError(f"{name}, {table.bad_rows} of {total} rows are wrong: {'; '.join(table.problems)}{more}")
    if not table.labels:
        raise ValueError(f"{name} has no rows{' below its header' if header else ''}: accepted is a row a signal")
    return table


def _rows(text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line it begins on; a quoted label may go over several lines."""
    reader = csv.reader(text, strict=True)
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


def _add(table: _Table, line: int, row: list[str], hint: str) -> None:
    """Take a row into the table, or what is wrong with it."""
    problem = _take_values(table, row)
    if problem is None:
        table.labels.append(row[-1])
        return
    table.bad_rows += 1
    if len(table.problems) < SHOWN_ROWS:
        table.problems.append(f"line {line}{problem}{hint}")


def _take_values(table: _Table, row: list[str]) -> str | None:
    """Append a row's signal to the table, or say what is wrong with the row and append nothing."""
    if len(row) < 2:
        return " has one value: accepted are a signal's values and its label, separated by commas"
    if len(row) != table.columns:
        return f" has {len(row)} values, expected {table.columns} as in the first row"
    if not row[-1].strip():
        return f", column {len(row)}: the label is empty"
    try:
        signal = array("f", map(float, row[:-1]))
    except ValueError:
        return _first_bad_cell(row)
    if not np.isfinite(np.frombuffer(signal, dtype=np.float32)).all():
        return _first_bad_cell(row)
    table.values.extend(signal)
    return None


def _first_bad_cell(row: list[str]) -> str:
    for column, cell in enumerate(row[:-1], 1):
        try:
            (value,) = array("f", [float(cell)])
        except ValueError:
            return f", column {column}: {_clipped(cell)} is not a number"
        if not np.isfinite(value):
            return f", column {column}: {_clipped(cell)} is not a finite number of 32 bits"
    raise AssertionError("the row has such a cell")


def _known_names(file: Path, labels: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    if more := sorted({*labels} - {*classes}):
        shown = ", ".join(map(_clipped, more[:SHOWN_ROWS]))
        raise ValueError(f"data.path={str(file)!r} does not fit the run: it has {shown}, which the run has not")
    return tuple(classes)


def _in_order(labels: set[str]) -> tuple[str, ...]:
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return tuple(sorted(labels))
    if not all(value.is_integer() for value in values.values()):
        return tuple(sorted(labels))
    return tuple(sorted(labels, key=lambda label: (values[label], label)))


def _one_sided(names: tuple[str, ...], labels: Tensor, tested: Tensor) -> str | None:
    """What is wrong with a split that leaves a class without a row to train on, or to test on."""
    totals, inside = (some.bincount(minlength=len(names)) for some in (labels, tested))
    lacking = torch.nonzero((inside == 0) | (inside == totals)).flatten().tolist()
    if not lacking:
        return None
    rows, side = int(totals[lacking[0]]), "test" if inside[lacking[0]] == 0 else "training"
    others = f"; {len(lacking) - 1} more classes have too few as well" if len(lacking) > 1 else ""
    count = f"{rows} row{'s' if rows > 1 else ''}"
    return f"class {_clipped(names[lacking[0]])} has {count}, and none is left for the {side} split{others}"


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
