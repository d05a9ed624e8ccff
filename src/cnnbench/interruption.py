"""Ctrl-C, SIGTERM and SIGUSR1: finish what is under way, keep it, then end.

Where nothing is worth keeping, SIGINT and SIGTERM raise at once. Within `deferred` they are only noted: training asks
`requested` after every step, saves, and calls `check`, which raises. A second SIGINT raises at once everywhere.
SIGUSR1 asks for a checkpoint, and training goes on.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAVE = getattr(signal, "SIGUSR1", None)  # not on Windows


class Terminated(BaseException):
    """The process was asked to end by SIGTERM."""


class _State:
    """What has been asked for; there is one of it, for a process has one set of handlers."""

    deferring = 0
    stop: int | None = None  # the signal that asked to end
    interrupts = 0  # how often Ctrl-C came
    save = False


_state = _State()


def listen() -> None:
    """Handle the signals from now on; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        return
    _state.stop, _state.interrupts, _state.save = None, 0, False
    signal.signal(signal.SIGINT, _on_stop)
    signal.signal(signal.SIGTERM, _on_stop)
    if SAVE is not None:
        signal.signal(SAVE, _on_save)


@contextmanager
def deferred() -> Iterator[None]:
    """Within it, signals are noted for `requested` and `check`; one that was not looked at raises at the end."""
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1
    check()


def requested() -> bool:
    """Whether the process is to end, or a checkpoint is wanted."""
    return _state.stop is not None or _state.save


def saved() -> None:
    """The checkpoint that was wanted has been written."""
    _state.save = False


def check() -> None:
    """End now, if that was asked for.

    Raises:
        KeyboardInterrupt, Terminated: by SIGINT, by SIGTERM.
    """
    if _state.stop is not None:
        number, _state.stop = _state.stop, None
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _on_stop(number: int, _: FrameType | None) -> None:
    _state.stop = number
    _state.interrupts += number == signal.SIGINT
    if _state.interrupts > 2:
        os._exit(128 + signal.SIGINT)  # something holds on to the exception of the second
    if not _state.deferring or _state.interrupts == 2:
        check()
    # Written without Python's streams: the handler may run while one of them is being used.
    os.write(2, f"{_name(number)}: finishing this step and saving it; Ctrl-C again quits at once\n".encode())


def _on_save(_: int, __: FrameType | None) -> None:
    if _state.deferring:
        _state.save = True
    else:
        os.write(2, b"SIGUSR1: nothing is being trained, so there is nothing to save\n")


def _name(number: int) -> str:
    return signal.Signals(number).name
