"""One's own signals from a CSV file, or from one to train on and one to test on; its rows: signal_rows.py."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.files.labels import alike_hint, alike_note, common_forms
from cnnbench.data.files.signal_rows import NAMES_HINT, SHOWN_ROWS, Table, clipped, read_table
from cnnbench.data.hashing import hashes_of
from cnnbench.data.preparation import cut_test
from cnnbench.registry import register
from cnnbench.storage.text import format_path

FEWEST_NUMBERED, FEWEST_MIXED = 5, 20  # rows; fewer may count up, or be all numbers of a range, by chance


@register("data", "csv_signals")
def csv_signals(
    root: str,
    download: bool,
    path: str | None,
    header: bool,
    test_fraction: float | None,
    label: str = "last",
    test_path: str | None = None,
    split_seed: int = 0,
    with_test: bool = True,
    classes: list[str] | None = None,
) -> Source:
    """Signals of one channel from UTF-8 files, a row a signal: its values and its label.

    The classes are the different labels in order; in that of their numbers, if all are whole numbers.

    Args:
        root, download: not used; `path` says it all.
        header: whether the first row holds column names.
        test_fraction: share of each class in the test split; the same rows whatever the run's seed; None cuts none.
        label: which value of a row is the label: `first`, `last`, or the one in the column of this name.
        test_path: a file of the same form that is tested on, instead of a share of `path`.
        split_seed: which share.
        with_test: whether the file of `test_path` is opened; without, the source's test split is empty.
        classes: those of a run that is to be measured on the signals, which may lack some.

    Raises:
        ValueError: no such file, rows that are not a signal and its label, or too few rows of a class.
    """
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise ValueError(f"data.test_fraction={test_fraction}: accepted is a number above 0 and below 1")
    file = _regular_file("data.path", path)
    table = read_table(str(file), f"data.path={str(file)!r}", header=header, label=label)
    own = _read_test(test_path if with_test else None, table, header=header, label=label)
    forms = common_forms([*table.labels, *(own.labels if own else ()), *(classes or ())])
    names = _in_order({forms[text] for text in table.labels})
    if classes is not None:
        names = _known_names(
            f"data.path={str(file)!r} does not fit the run", names, tuple(classes), "which the run has not"
        )
    if len(names) < 2:
        raise ValueError(
            f"data.path={str(file)!r} has one class, {clipped(names[0])}: accepted are at least 2, named in the "
            f"{label} column{_first_hint(table, label)}"
        )
    rows = _split(table, names, forms)
    info = DatasetInfo("csv_signals", in_channels=1, image_size=rows.shape[-1], class_names=names, dimensions=1)
    notes = (*_index_columns(file, table, rows.images), *_alike(file, names))
    if own is not None:
        _known_names(
            f"data.test_path={test_path!r}",
            [forms[text] for text in own.labels],
            names,
            f"which data.path has not{_first_hint(table, label)}",
        )
        return Source(info, rows, _split(own, names, forms, first=len(rows)), notes=notes)
    if test_path is not None:
        return Source(info, rows, rows[torch.arange(0)], notes=notes)
    notes += _test_beside(file)
    if test_fraction is None:
        return Source(info, rows, None, notes=notes)
    assert rows.marks is not None
    contents = (row.tobytes() for row in rows.marks[:, 1].numpy().astype("<i8"))
    test, train = cut_test(rows.labels, contents, test_fraction, split_seed)
    if problem := _one_sided(names, rows.labels, rows.labels[test]):
        alone = not header and table.labels.count(table.labels[0]) == 1
        raise ValueError(
            f"data.path={str(file)!r}, data.test_fraction={test_fraction}: {problem}. Accepted are more rows of a "
            f"class, or another fraction{'; the first row is alone in its class' + NAMES_HINT if alone else ''}"
            f"{_first_hint(table, label)}"
        )
    return Source(info, rows[train], rows[test], notes=notes)


def _read_test(path: str | None, trained: Table, *, header: bool, label: str) -> Table | None:
    if path is None:
        return None
    file = _regular_file("data.test_path", path)
    return read_table(str(file), f"data.test_path={str(file)!r}", header=header, label=label, columns=trained.columns)


def _split(table: Table, names: Sequence[str], forms: Mapping[str, str], first: int = 0) -> Split:
    """The signals of a table with their labels and marks; its first row has this place in the source."""
    signals = torch.from_numpy(np.frombuffer(table.values, dtype=np.float32)).view(len(table.labels), 1, -1)
    number = {name: index for index, name in enumerate(names)}
    labels = torch.tensor([number[forms[text]] for text in table.labels])
    hashes = torch.from_numpy(hashes_of(signals.numpy()))
    return Split(signals, labels, None, torch.stack((hashes, hashes, first + torch.arange(len(labels))), 1))


def _first_hint(table: Table, label: str) -> str:
    """For an error about labels, where the first values of the rows would do as such."""
    first = table.values[:: table.columns - 1]
    fits = label == "last" and all(value.is_integer() for value in first) and 1 < len({*first}) <= len(first) // 2
    return " (if the label is the first value of a row: data.label=first)" if fits else ""


def _alike(file: Path, names: Sequence[str]) -> tuple[str, ...]:
    note = alike_note(names)
    return (f"{format_path(file)}: {note}",) if note else ()


def _test_beside(file: Path) -> tuple[str, ...]:
    """A note on X_TEST.tsv beside X_TRAIN.tsv, which is not looked at unless somebody says so."""
    for train, test in (("TRAIN", "TEST"), ("train", "test"), ("Train", "Test")):
        other = file.with_name(file.name.replace(train, test))
        if other != file and other.is_file():
            return (f"{format_path(other)} is not used: data.test_path={format_path(other)} tests on it",)
    return ()


def _index_columns(file: Path, table: Table, signals: Tensor) -> tuple[str, ...]:
    """A note on the columns that only number the rows: whoever sorted them by class gives the label away."""
    if len(signals) < FEWEST_NUMBERED:
        return ()
    whole = torch.nonzero((signals[:, 0] % 1 == 0).all(0)).flatten()
    values = signals[:, 0, whole].sort(0).values if len(signals) >= FEWEST_MIXED else signals[:, 0, whole]
    counting = whole[(values.diff(dim=0) == 1).all(0)].tolist()
    if not counting:
        return ()
    counting = [column + (column >= table.label_at) for column in counting]
    names = [f"{column + 1}{f' ({clipped(table.header[column])})' if table.header else ''}" for column in counting]
    several = len(names) > 1
    said = (
        f"column{'s' if several else ''} {', '.join(names[:SHOWN_ROWS])} only number{'' if several else 's'} the rows"
    )
    return (
        f"{format_path(file)}: {said}, and {'are' if several else 'is'} taken as a part of the signals: write the file "
        f"without {'them' if several else 'it'} (in pandas: to_csv(..., index=False))",
    )


def _regular_file(key: str, path: str | None) -> Path:
    """The path of a file that may be opened: reading a pipe or a device might never end."""
    if not path:
        raise ValueError(
            f"{key}={'null' if path is None else repr(path)}: accepted is a CSV file, each row the values of a "
            "signal and its label"
        )
    file = Path(os.path.expanduser(path))
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{key}={path!r} cannot be read ({reason}): looked for {str(file.absolute())!r}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
        raise ValueError(f"{key}={path!r} is {kind}: accepted is a CSV file")
    return file


def _known_names(where: str, found: Sequence[str], known: tuple[str, ...], why: str) -> tuple[str, ...]:
    """The known names, if there are no others."""
    if more := sorted({*found} - {*known}):
        shown = ", ".join(map(clipped, more[:SHOWN_ROWS]))
        raise ValueError(f"{where}: it has {shown}, {why}{alike_hint(more, known)}")
    return known


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
    one_sided = (inside == 0) | (inside == totals)
    lacking = torch.nonzero(one_sided & (totals > 0)).flatten().tolist()
    if not lacking:
        return None
    rows, side = int(totals[lacking[0]]), "test" if inside[lacking[0]] == 0 else "training"
    others = f"; {len(lacking) - 1} more classes have too few as well" if len(lacking) > 1 else ""
    count = f"{rows} row{'s' if rows > 1 else ''}"
    return f"class {clipped(names[lacking[0]])} has {count}, and none is left for the {side} split{others}"
