"""`python -m cnnbench` is the same as the console script `cnnbench`."""

import gc
import sys
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
    finally:
        # Python would search everything imported for garbage once more before it ends. Triton must be cleaned up:
        # otherwise it prints pages about leaked objects.
        if "triton" not in sys.modules:
            gc.freeze()


if __name__ == "__main__":
    main()
