"""What the commands say while they work, on standard error."""

import contextlib
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from cnnbench.storage.text import make_lines_printable

log = logging.getLogger("cnnbench")


class _AboveTheBar(logging.Handler):
    """Prints a message on stderr without tearing a progress bar apart; tracebacks stay in the log file."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk, a reader that has gone: the run goes on
            text = record.getMessage()
            mark = "warning: " if record.levelno == logging.WARNING and not text.startswith("WARNING") else ""
            # tqdm, interrupted while it takes its lock, raises an error of its own in place of the interruption.
            tqdm.write(make_lines_printable(mark + text), file=sys.stderr, nolock=True)


def show_messages() -> None:
    """From here on, what is logged is shown."""
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [_AboveTheBar()]


def shown(folder: Path) -> Path:
    """The folder as a user would type it: relative to where they are, if it lies below."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
