"""Pictures drawn by other processes: all of them, or the error of the one that failed."""

import os
import signal
import time
from contextlib import closing
from functools import partial

import pytest

from cnnbench.runs.painters import Painters


@pytest.fixture
def painters():
    with closing(Painters(2)) as made:
        yield made


def paint(path, seconds=0.0):
    time.sleep(seconds)
    path.write_text(str(os.getpid()))


def fail():
    raise OSError(28, "No space left on device")


def die_but_in(process, path):
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    paint(path)


def paint_beside(path, other):
    paint(path)
    deadline = time.monotonic() + 60
    while not other.exists():
        assert time.monotonic() < deadline, "the other picture is not drawn at the same time"
        time.sleep(0.01)


def test_pictures_are_drawn_side_by_side_in_other_processes(painters, tmp_path):
    places = tmp_path / "a", tmp_path / "b"
    painters.draw([partial(paint_beside, *places), partial(paint_beside, *reversed(places))])
    a, b = ((tmp_path / name).read_text() for name in "ab")
    assert len({a, b, str(os.getpid())}) == 3


def test_the_error_of_a_picture_that_fails_is_raised_when_all_are_done(painters, tmp_path):
    with pytest.raises(OSError, match="No space left"):
        painters.draw([partial(fail), partial(paint, tmp_path / "a", 0.5)])
    assert (tmp_path / "a").exists(), "nothing draws any more when the run is said to have failed"


def test_a_picture_is_drawn_at_once_and_its_error_raised_by_the_call_that_waits(painters, tmp_path):
    painters.draw([partial(paint, tmp_path / "a"), partial(fail)], wait=False)
    deadline = time.monotonic() + 60
    while not (tmp_path / "a").exists():
        assert time.monotonic() < deadline, "nothing is drawn while nobody waits"
        time.sleep(0.01)
    with pytest.raises(OSError, match="No space left"):
        painters.draw([partial(paint, tmp_path / "b")])
    assert (tmp_path / "b").exists()
    painters.draw([])


def test_pictures_of_a_killed_painter_are_drawn_by_this_process(tmp_path):
    painters = Painters(1)
    pictures = [partial(die_but_in, os.getpid(), tmp_path / "a"), partial(paint, tmp_path / "b")]
    for wait in (True, False):  # and from then on
        painters.draw(pictures, wait=wait)
        painters.draw([])
        assert {(tmp_path / name).read_text() for name in "ab"} == {str(os.getpid())}
        (tmp_path / "a").unlink()
