"""From exceptions to exit codes and one readable line.

0 done · 1 a run failed · 2 the command was wrong · 130 interrupted, resumable · 143 terminated (by SIGTERM, or because
the terminal was closed), resumable.
"""

import contextlib
import sys
import traceback
from collections import namedtuple
from types import TracebackType
from typing import NoReturn

from cnnbench.processes import signals
from cnnbench.processes.signals import Terminated
from cnnbench.storage.text import make_lines_printable

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

MAPPED = 4 * 10**9  # bytes of address space that PyTorch built for CUDA takes
FAILED, WRONG, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class RunFailed(Exception):
    """A run started and did not finish; its folder says why."""


class exit_codes:
    """Within it, a user's mistake ends the program with one line and a code, and signals mean what `interruption` says.

    Attributes:
        debug: show tracebacks.
    """

    debug = False

    def __enter__(self) -> None:
        signals.listen()
        if (limit := _address_space()) is not None and limit < MAPPED:
            _say(f"warning: {_too_little(limit)}")  # now: C++ may end the process without a word

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit) or kind is None or kind.__module__.startswith("typer"):
            return
        if self.debug:
            traceback.print_exception(error)
        if isinstance(error, KeyboardInterrupt):
            leave(f"interrupted{_shown(error)}", INTERRUPTED)
        if isinstance(error, Terminated):
            leave(f"terminated{_shown(error)}", TERMINATED)
        if isinstance(error, ValueError | OSError):
            leave(f"error: {error}", WRONG)
        if isinstance(error, RunFailed):
            leave(f"error: {error}", FAILED)
        if isinstance(error, MemoryError) or any(words in str(error) for words in ("bad_alloc", "map segment")):
            limit = _address_space()
            helps = "close other programs, or ask for less" if limit is None else _too_little(limit)
            leave(f"error: there is not enough memory ({str(error) or kind.__name__}): {helps}", FAILED)
        leave(f"error: {kind.__name__}: {error} (--debug shows where)", FAILED)


def leave(message: str, code: int) -> NoReturn:
    """End the program with a line on standard error, if that can be written, and a code."""
    _say(message)
    # `python -m` kills itself by SIGINT in the end where a KeyboardInterrupt has passed text that was being evaluated,
    # such as that of a dataclass; unless another text is evaluated after it, as it is for a named tuple.
    namedtuple("Nothing", ())
    raise SystemExit(code)


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(make_lines_printable(message), file=sys.stderr)


def _address_space() -> int | None:
    """The bytes that this process may map, where there is a limit."""
    if resource is None or (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return None
    return limit


def _too_little(limit: int) -> str:
    return (
        f"this process may map {limit / 1e9:.1f} GB (ulimit -v), and PyTorch alone maps up to {MAPPED / 1e9:.0f} GB, "
        "most of which it never touches: ulimit -v unlimited lifts the limit"
    )


def _shown(error: BaseException) -> str:
    return f": {error}" if str(error) else ""
