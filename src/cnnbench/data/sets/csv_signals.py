"""The user's own signals from a CSV file, or from one for training and one for testing; `signal_rows.py` reads them."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.keys import Options, key
from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.files.labels import describe_alike, hint_at_alike, unify_labels
from cnnbench.data.files.signal_rows import NAMES_HINT, SHOWN_ROWS, Table, clip, read_table
from cnnbench.data.hashing import hash_rows
from cnnbench.data.preparation import cut_test
from cnnbench.registry import register
from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path

FEWEST_NUMBERED, FEWEST_MIXED = 5, 20  # rows; fewer may count up, or be all numbers of a range, by chance


class CsvSignalsOptions(Options):
    """What `configs/data/csv_signals.yaml` sets."""

    path: str | None = key("The CSV file, with the values and the label of a signal in each row", may_change=True)
    test_path: str | None = key(
        "A second file to test on; null = data.test_fraction of each class, the same rows for every seed",
        may_change=True,
    )
    header: bool = key("Whether the first row holds column names")
    label: str = key("The column of the label: first, last, or its name if there is a header")


@register("data", "csv_signals")
def csv_signals(
    options: CsvSignalsOptions,
    test_fraction: float | None = None,
    test_seed: int = 0,
    with_test: bool = True,
    classes: list[str] | None = None,
) -> Source:
    """Signals of one channel from UTF-8 files, in each row the values of a signal and its label.

    The arguments are those of `image_folder`.

    Raises:
        ValueError: no such file, rows that are not a signal and its label, or too few rows of a class.
    """
    file = _check_file("data.path", options.path)
    where, test_path = f"data.path={str(file)!r}", options.test_path
    table = read_table(str(file), where, header=options.header, label=options.label)
    test_table = None
    if test_path is not None and with_test:
        test_file = str(_check_file("data.test_path", test_path))
        test_table = read_table(
            test_file, f"data.test_path={test_file!r}", header=options.header, label=options.label,
            columns=table.columns,
        )  # fmt: skip
    forms = unify_labels([*table.labels, *(test_table.labels if test_table else ()), *(classes or ())])
    hint = _hint_at_first_column(table, options.label)
    names = _choose_names(table, forms, classes, where, options)
    rows = _make_split(table, names, forms)
    info = DatasetInfo("csv_signals", in_channels=1, image_size=rows.shape[-1], class_names=names, dimensions=1)
    notes = [*_note_index_columns(table, rows.images), *filter(None, [describe_alike(names)])]
    notes = [f"{format_path(file)}: {note}" for note in notes]
    if test_path is not None:
        test = rows[torch.arange(0)]
        if test_table is not None:
            found = [forms[text] for text in test_table.labels]
            _refuse_unknown(f"data.test_path={test_path!r}", found, names, f"which data.path lacks{hint}")
            test = _make_split(test_table, names, forms, first=len(rows))
        return Source(info, rows, test, notes=tuple(notes))
    notes += _note_test_file_beside(file)
    if test_fraction is None:
        return Source(info, rows, None, notes=tuple(notes))
    assert rows.marks is not None
    contents = (row.tobytes() for row in rows.marks[:, 1].numpy().astype("<i8"))
    tested, rest = cut_test(rows.labels, contents, test_fraction, test_seed)
    if problem := _find_lacking_side(names, rows.labels, rows.labels[tested]):
        is_alone = not options.header and table.labels.count(table.labels[0]) == 1
        advice = f"; the first row is alone in its class{NAMES_HINT}" if is_alone else ""
        raise ValueError(
            f"{where}, data.test_fraction={test_fraction}: {problem}. Add rows of a class, or set another "
            f"fraction{advice}{hint}"
        )
    return Source(info, rows[rest], rows[tested], notes=tuple(notes))


def _choose_names(
    table: Table, forms: Mapping[str, str], classes: Sequence[str] | None, where: str, options: CsvSignalsOptions
) -> tuple[str, ...]:
    """The class names in order: those of the measured run, or those in the table."""
    names = _sort_labels({forms[text] for text in table.labels})
    if classes is not None:
        _refuse_unknown(f"{where} does not fit the run", names, classes, "which the run lacks")
        names = tuple(classes)
    if len(names) < 2:
        raise ValueError(
            f"{where} has one class, {clip(names[0])}: it needs at least 2, named in the {options.label} column"
            f"{_hint_at_first_column(table, options.label)}"
        )
    return names


def _make_split(table: Table, names: Sequence[str], forms: Mapping[str, str], first: int = 0) -> Split:
    """The signals of a table with labels and marks; `first` is the place of its first row in the source."""
    signals = torch.from_numpy(np.frombuffer(table.values, dtype=np.float32)).view(len(table.labels), 1, -1)
    number = {name: index for index, name in enumerate(names)}
    labels = torch.tensor([number[forms[text]] for text in table.labels])
    hashes = torch.from_numpy(hash_rows(signals.numpy()))
    return Split(signals, labels, None, torch.stack((hashes, hashes, first + torch.arange(len(labels))), 1))


def _hint_at_first_column(table: Table, label: str) -> str:
    """A hint, for an error about labels, that the first column looks like labels; empty if it does not."""
    first = table.values[:: table.columns - 1]
    fits = label == "last" and all(value.is_integer() for value in first) and 1 < len({*first}) <= len(first) // 2
    return " (if the label is the first value of a row: data.label=first)" if fits else ""


def _note_test_file_beside(file: Path) -> list[str]:
    """Note an X_TEST.tsv beside X_TRAIN.tsv, which only `data.test_path` puts to use."""
    for train, test in (("TRAIN", "TEST"), ("train", "test"), ("Train", "Test")):
        other = file.with_name(file.name.replace(train, test))
        if other != file and other.is_file():
            return [f"{format_path(other)} is not used: data.test_path={format_path(other)} tests on it"]
    return []


def _note_index_columns(table: Table, signals: Tensor) -> list[str]:
    """Note columns that only number the rows: in a file sorted by class, they give the labels away."""
    if len(signals) < FEWEST_NUMBERED:
        return []
    whole = torch.nonzero((signals[:, 0] % 1 == 0).all(0)).flatten()
    values = signals[:, 0, whole].sort(0).values if len(signals) >= FEWEST_MIXED else signals[:, 0, whole]
    counting = whole[(values.diff(dim=0) == 1).all(0)].tolist()
    columns = [column + (column >= table.label_at) for column in counting]
    names = [f"{column + 1}{f' ({clip(table.header[column])})' if table.header else ''}" for column in columns]
    if not names:
        return []
    subject, verb, them = ("columns", "number", "them") if len(names) > 1 else ("column", "numbers", "it")
    return [
        f"{subject} {', '.join(names[:SHOWN_ROWS])} only {verb} the rows, but {'are' if len(names) > 1 else 'is'} part "
        f"of the signals: write the file without {them} (in pandas: to_csv(..., index=False))"
    ]


def _check_file(key: str, path: str | None) -> Path:
    """Check that a path is a regular file: reading a pipe or a device might never end."""
    if not path:
        raise ValueError(
            f"{key}={'null' if path is None else repr(path)}: must be a CSV file, each row the values of a "
            "signal and its label"
        )
    file = Path(os.path.expanduser(path))
    try:
        check_regular(file, sys.maxsize)
    except Refused as refused:
        raise ValueError(f"{key}={path!r} is {refused}: must be a CSV file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{key}={path!r} cannot be read ({reason}): looked for {str(file.absolute())!r}") from None
    return file


def _refuse_unknown(where: str, found: Sequence[str], known: Sequence[str], why: str) -> None:
    if more := sorted({*found} - {*known}):
        shown = ", ".join(map(clip, more[:SHOWN_ROWS]))
        raise ValueError(f"{where}: it has {shown}, {why}{hint_at_alike(more, known)}")


def _sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Sort labels as numbers if all are whole numbers, otherwise as text."""
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return tuple(sorted(labels))
    if not all(value.is_integer() for value in values.values()):
        return tuple(sorted(labels))
    return tuple(sorted(labels, key=lambda label: (values[label], label)))


def _find_lacking_side(names: tuple[str, ...], labels: Tensor, tested: Tensor) -> str | None:
    """Which class has no row to train on, or none to test on; None if each has both."""
    totals, inside = (some.bincount(minlength=len(names)) for some in (labels, tested))
    one_sided = (inside == 0) | (inside == totals)
    lacking = torch.nonzero(one_sided & (totals > 0)).flatten().tolist()
    if not lacking:
        return None
    rows, side = int(totals[lacking[0]]), "test" if inside[lacking[0]] == 0 else "training"
    others = f"; {len(lacking) - 1} more classes have too few as well" if len(lacking) > 1 else ""
    count = f"{rows} row{'s' if rows > 1 else ''}"
    return f"class {clip(names[lacking[0]])} has {count}, and none is left for the {side} split{others}"
