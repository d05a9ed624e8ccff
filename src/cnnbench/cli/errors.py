"""How commands end: exit codes, and one readable line for each error.

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

TORCH_BYTES = 4 * 10**9  # of address space that PyTorch maps when it was built for CUDA
FAILED, WRONG, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class RunFailed(Exception):
    """A run started and did not finish; its folder says why."""


ENDINGS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, int], ...] = (
    (KeyboardInterrupt, "interrupted", INTERRUPTED),
    (Terminated, "terminated", TERMINATED),
    ((ValueError, OSError), "error", WRONG),
    (RunFailed, "error", FAILED),
)


class ExitCodes:
    """Within it, an error ends the program with one line and an exit code, and signals act as `signals` describes.

    Attributes:
        debug: show tracebacks.
    """

    debug = False

    def __enter__(self) -> None:
        signals.listen()
        if (limit := _read_address_limit()) is not None and limit < TORCH_BYTES:
            _print_error(f"warning: {_explain_limit(limit)}")  # at once, because C++ may end the process silently

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit) or type(error).__module__.startswith("typer"):
            return
        if self.debug:
            traceback.print_exception(error)
        name, text = type(error).__name__, str(error)
        for kinds, word, code in ENDINGS:
            if isinstance(error, kinds):
                exit_with(f"{word}: {text}" if text else word, code)
        # PyTorch and the dynamic linker report a lack of memory as other errors, which only their text tells apart.
        if isinstance(error, MemoryError) or "bad_alloc" in text or "map segment" in text:
            limit = _read_address_limit()
            remedy = "close other programs, or ask for less" if limit is None else _explain_limit(limit)
            exit_with(f"error: not enough memory ({text or name}): {remedy}", FAILED)
        exit_with(f"error: {name}: {text} (--debug shows where)", FAILED)


def exit_with(message: str, code: int) -> NoReturn:
    """Print a line on standard error, if possible, and end the program."""
    _print_error(message)
    # Once a KeyboardInterrupt has passed through `exec`, as dataclasses use it, `python -m` kills itself with SIGINT
    # at the end, whatever the exit code. It does not if `exec` runs again, as it does for a named tuple.
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
        f"this process may map {limit / 1e9:.1f} GB (ulimit -v), and PyTorch alone maps up to {TORCH_BYTES / 1e9:.0f} "
        "GB, most of which it never touches: ulimit -v unlimited lifts the limit"
    )
