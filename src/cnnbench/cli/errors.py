"""How commands end: exit codes, and one readable line for each error.

0 done · 1 a run failed · 2 the command was wrong · 130 interrupted, resumable · 143 terminated (by SIGTERM, or because
the terminal was closed), resumable.
"""

import contextlib
import sys
import traceback
from collections import namedtuple
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from cnnbench.processes import signals
from cnnbench.processes.signals import Terminated
from cnnbench.quality.findings import RefusedData
from cnnbench.storage.text import make_lines_printable

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

TORCH_BYTES = 4 * 10**9  # of address space that PyTorch maps when it was built for CUDA
FAILED, WRONG, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class RunFailed(Exception):
    """A run started and did not finish; its folder says why.

    Attributes:
        folder: of the run or the sweep, if it is one.
    """

    def __init__(self, message: str, folder: Path | None = None) -> None:
        super().__init__(message)
        self.folder = folder


# The first entry that an error fits decides: RefusedData is a ValueError too.
ENDINGS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, int], ...] = (
    (KeyboardInterrupt, "interrupted", INTERRUPTED),
    (Terminated, "terminated", TERMINATED),
    (RefusedData, "error", FAILED),
    ((ValueError, OSError), "error", WRONG),
    (RunFailed, "error", FAILED),
)


class ExitCodes:
    """A context in which an error ends the program with one line and an exit code, and signals stop it cleanly.

    Attributes:
        debug: show tracebacks.
    """

    debug = False

    def __enter__(self) -> None:
        signals.listen()
        if (limit := _read_address_limit()) is not None and limit < TORCH_BYTES:
            # Not only on failure: when C++ runs out of address space, it may end the process without a message.
            _print_error(f"warning: {_explain_limit(limit)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit) or type(error).__module__.startswith("typer"):
            return
        if self.debug:
            traceback.print_exception(error)
        name, text = type(error).__name__, str(error)
        if isinstance(error, OSError):
            from cnnbench.storage.atomic import NO_SPACE  # not at the top: help needs no locks

            if error.errno in NO_SPACE:  # not the command's fault
                where = f"{error.filename}: " if error.filename else ""
                exit_with(f"error: {where}{error.strerror}: free some space, then repeat the command", FAILED)
        for kinds, word, code in ENDINGS:
            if isinstance(error, kinds):
                place = _locate_error(error) if code == WRONG else ""
                exit_with(f"{word}: {place}{text}" if text else word, code)
        # PyTorch and the dynamic linker raise other error types when memory runs out; only the text identifies them.
        if isinstance(error, MemoryError) or "bad_alloc" in text or "map segment" in text:
            limit = _read_address_limit()
            remedy = "close other programs, or use a smaller setting" if limit is None else _explain_limit(limit)
            exit_with(f"error: not enough memory ({text or name}): {remedy}", FAILED)
        place = _locate_error(error)
        exit_with(f"error: {place}{name}: {text} (--debug shows {'all' if place else 'where'})", FAILED)


def _locate_error(error: BaseException) -> str:
    # Not at the top: help needs no plug-ins, and where memory has run out or Ctrl-C was pressed, nothing is imported.
    from cnnbench.plugins.loading import locate_error

    return locate_error(error)


def exit_with(message: str, code: int) -> NoReturn:
    """Print a line on standard error, if that is possible, and end the program."""
    _print_error(message)
    # If a KeyboardInterrupt passes through `exec` (dataclasses use it), `python -m` later kills itself with SIGINT and
    # loses the exit code. Another `exec` clears that state, and creating a named tuple runs one.
    namedtuple("Nothing", ())
    raise SystemExit(code)


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the stream may be closed
        print(make_lines_printable(message), file=sys.stderr)


def _read_address_limit() -> int | None:
    """Return the bytes of address space that this process may map; None without a limit."""
    if resource is None or (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return None
    return limit


def _explain_limit(limit: int) -> str:
    return (
        f"this process may map {limit / 1e9:.1f} GB (ulimit -v), but PyTorch alone maps up to {TORCH_BYTES / 1e9:.0f} "
        "GB, most of which it never uses: ulimit -v unlimited lifts the limit"
    )
