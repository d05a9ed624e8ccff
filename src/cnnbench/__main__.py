"""`python -m cnnbench` is the same as the console script `cnnbench`."""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn

from cnnbench.processes import signals

MADE_BEFORE_COLLECTION = 100_000  # objects; Python's own 700 suit a program that imports less than torch


def main() -> NoReturn:
    """Run the command line."""
    signals.quit_at_once()  # the import takes a moment, in which Ctrl-C should leave no traceback
    gc.set_threshold(MADE_BEFORE_COLLECTION)
    from cnnbench.cli import main as run

    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _end(ended.code)
        raise


def _end(code: int) -> None:
    """End the process as Python does, but without deleting every module, which takes torch's half a second.

    If something cannot be written, it returns, and Python says so.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


if __name__ == "__main__":
    main()
