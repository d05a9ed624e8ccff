"""The history of a run: rows added to `metrics.csv`, and found again, whatever became of the file."""

import json
import logging
import os

import pytest

from cnnbench.runs.folder import RunFolder
from cnnbench.runs.history import History


def row(epoch, value=None, **more):
    return {"epoch": epoch, "lr": 0.1 / epoch, "val/accuracy": value, "seconds": 0.25, **more}


def grown(folder, epochs):
    """A history, and its record after each of so many epochs."""
    folder.mkdir(exist_ok=True)
    history, records = History(RunFolder(folder), "val/accuracy"), []
    for epoch in range(1, epochs + 1):
        history.add(row(epoch, epoch % 7 / 7))
        records.append(json.loads(json.dumps(history.record())))
        history.write()
    return history, records


def restored(folder, record):
    history = History(RunFolder(folder), "val/accuracy")
    history.restore(record)
    history.write()  # what was found wrong is mended then, once a resume has been checked
    return history


def test_an_epoch_costs_no_more_for_those_behind_it(tmp_path):
    history, records = grown(tmp_path, 300)
    assert len(json.dumps(records[-1])) <= len(json.dumps(records[9])) + 60, "only digits"
    file, inode = tmp_path / "metrics.csv", (tmp_path / "metrics.csv").stat().st_ino
    before = file.read_bytes()
    history.add(row(301, 0.5))
    history.write()
    history.write()
    assert file.stat().st_ino == inode, "it is added to, not written anew"
    assert file.read_bytes()[: len(before)] == before
    assert RunFolder(tmp_path).read_metrics() == history.rows
    assert [(r["epoch"], r["val/accuracy"]) for r in history.rows[:2]] == [(1, 1 / 7), (2, 2 / 7)]


def test_the_best_epoch_is_the_first_of_the_best_or_without_validation_the_last(tmp_path):
    history, _ = grown(tmp_path, 20)
    assert (history.best, history.best_value, history.epochs, history.seconds) == (6, 6 / 7, 20, 5.0)
    down = History(RunFolder(tmp_path), "val/loss")
    for epoch, loss in enumerate((3.0, 1.0, 2.0, 1.0), 1):
        down.add(row(epoch) | {"val/loss": loss})
    assert down.best == 2
    unvalidated = History(RunFolder(tmp_path), "val/accuracy")
    for epoch in range(1, 4):
        unvalidated.add(row(epoch))
    assert unvalidated.best == 3


def more_rows(file, rows):
    pass


def half_a_row(file, rows):
    file.write_bytes(b"".join(rows[:6]) + rows[6][:5])


def without_its_last_row(file, rows):
    file.write_bytes(b"".join(rows[:6]))


@pytest.mark.parametrize("left", [more_rows, half_a_row, without_its_last_row])
@pytest.mark.parametrize("epochs", [1, 6])
def test_what_a_kill_leaves_is_cut_to_the_epochs_of_the_checkpoint(left, epochs, tmp_path, caplog):
    _, records = grown(tmp_path, 9)
    file = tmp_path / "metrics.csv"
    rows = file.read_bytes().splitlines(keepends=True)
    left(file, rows)
    history = restored(tmp_path, records[epochs - 1])
    assert file.read_bytes() == b"".join(rows[: epochs + 1])
    history.add(row(epochs + 1, (epochs + 1) % 7 / 7))
    assert history.record() == records[epochs]
    history.write()
    assert file.read_bytes() == b"".join(rows[: epochs + 2])
    assert not caplog.records


def test_a_first_epoch_whose_row_was_never_written_has_it(tmp_path, caplog):
    _, records = grown(tmp_path, 1)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").unlink()
    restored(tmp_path, records[0])
    assert (tmp_path / "metrics.csv").read_bytes() == whole
    assert not caplog.records


def changed(file):
    file.write_bytes(file.read_bytes().replace(b"0.1,", b"0.9,", 1))


def saved_by_a_spreadsheet(file):
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def in_noise(file):
    file.write_bytes(os.urandom(50))


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda f: f.unlink(), [5]),
        (changed, [1, 2, 3, 4, 5]),
        (saved_by_a_spreadsheet, None),
        (in_noise, [5]),
        (a_pipe, [5]),
    ],
)
def test_a_damaged_file_is_said_and_stops_no_run(damage, kept, tmp_path, caplog):
    history, records = grown(tmp_path, 5)
    damage(tmp_path / "metrics.csv")
    with caplog.at_level(logging.ERROR, "cnnbench"):
        found = restored(tmp_path, records[-1])
    assert (found.epochs, found.best, found.seconds) == (5, 5, 1.25)
    if kept is None:  # only its line ends: all of it is found
        assert not caplog.records
        assert found.rows == history.rows
    else:
        assert "metrics.csv was changed or damaged since this run wrote it" in caplog.text
        assert [r["epoch"] for r in found.rows] == kept
    found.add(row(6, 0.0))
    found.write()
    assert RunFolder(tmp_path).read_metrics() == found.rows
