"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: finish the current step, save, then end.

If there is nothing to save, SIGINT and SIGTERM raise at once. Within `defer` they are only noted: training calls
`is_requested` after every step, saves, and calls `check`, which raises. A second SIGINT always raises at once.
SIGHUP, which a closing terminal sends, is handled like SIGTERM. SIGUSR1 requests a checkpoint, and training continues.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SAVE = getattr(signal, "SIGUSR1", None)  # not on Windows
STOPS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
TO_GROUPS = (*STOPS, *([] if SAVE is None else [SAVE]))  # often sent to a whole group of processes


class Terminated(BaseException):
    """SIGTERM or SIGHUP requested the end of the process."""


class _State:
    """The pending requests. There is one instance, because a process has one set of handlers."""

    deferring = 0
    stop: int | None = None  # the signal that requested the end
    interrupts = 0  # how often Ctrl-C came
    save = False
    ended_by: int | None = None  # the signal of the last `Terminated`
    may_exit = True  # whether a third Ctrl-C ends the process


_state = _State()


def listen() -> None:
    """Handle the signals from now on; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        return
    _state.stop, _state.interrupts, _state.save = None, 0, False
    for number in STOPS:
        # A SIGHUP that is ignored from the start, as by nohup, stays ignored.
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle_stop)
    if SAVE is not None:
        signal.signal(SAVE, _handle_save)


@contextmanager
def attend() -> Iterator[None]:
    """Handle signals inside a program that has handlers of its own, which are restored; only the main thread can.

    Signals other than SIGINT are handled only if the program leaves them to the system. One that ends the program is
    raised again at the end, when training has been saved.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in TO_GROUPS} if is_main else {}
    # Handlers that were installed by C code are None, and could not be restored.
    kept = {
        number: handler
        for number, handler in handlers.items()
        if handler == signal.SIG_DFL or (number == signal.SIGINT and handler is not None)
    }
    _state.stop, _state.interrupts, _state.save = None, 0, False
    may_exit, _state.may_exit = _state.may_exit, False
    terminated = False
    try:
        for number in kept:
            signal.signal(number, _handle_save if number == SAVE else _handle_stop)
        yield
    except Terminated:
        terminated = True
        raise
    finally:
        _state.may_exit = may_exit
        for number, handler in kept.items():
            signal.signal(number, handler)
        if terminated and _state.ended_by is not None and _state.ended_by in kept:
            signal.raise_signal(_state.ended_by)


def quit_at_once() -> None:
    """From now on, end the process at once at Ctrl-C, without a message, because there is nothing to save."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))


def leave_to_parent() -> None:
    """Ignore the signals that may be sent to a whole process group: the parent handles them."""
    for number in TO_GROUPS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_GROUPS)  # blocked by `hold` of the parent


@contextmanager
def hold() -> Iterator[None]:
    """Hold back signals that end a process; a process started inside begins with them blocked."""
    # Without this, a handler might raise while Python forks, and Python would print the exception and drop it.
    held: list[int] = []
    # Only the main thread runs and may change handlers. Those installed by C code cannot be restored, so keep them.
    own = threading.current_thread() is threading.main_thread() and None not in map(signal.getsignal, STOPS)
    before = {number: signal.signal(number, lambda got, _: held.append(got)) for number in STOPS if own}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, TO_GROUPS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    for got in held:
        signal.raise_signal(got)


@contextmanager
def defer() -> Iterator[None]:
    """Note signals for `is_requested` and `check`; one that was not checked raises at the end."""
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1
    check()


def is_requested() -> bool:
    """Whether an end or a checkpoint was requested."""
    return _state.stop is not None or _state.save


def confirm_save() -> None:
    """Note that the requested checkpoint has been written."""
    _state.save = False


def check() -> None:
    """End now if that was requested.

    Raises:
        KeyboardInterrupt, Terminated: by SIGINT, by another signal.
    """
    if _state.stop is not None:
        number, _state.stop, _state.ended_by = _state.stop, None, _state.stop
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _handle_stop(number: int, _: FrameType | None) -> None:
    _state.stop = number
    _state.interrupts += number == signal.SIGINT
    if _state.interrupts > 2 and _state.may_exit:
        os._exit(128 + signal.SIGINT)  # some code has caught the second one's exception
    if not _state.deferring or _state.interrupts >= 2:
        check()
    _tell(f"{signal.Signals(number).name}: finishing this step and saving it; Ctrl-C again quits at once")


def _handle_save(_: int, __: FrameType | None) -> None:
    if _state.deferring:
        _state.save = True
    else:
        _tell("SIGUSR1: nothing is being trained, so there is nothing to save")


def _tell(text: str) -> None:
    """Write without Python's streams, because the handler may interrupt code that holds a stream's lock."""
    with suppress(OSError):  # the terminal may have been closed
        os.write(2, f"{text}\n".encode())
