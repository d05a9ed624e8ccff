"""Standard streams, and the log on standard error.

A command never fails because a stream is closed, an encoding lacks a character, or the reader of a pipe has gone.
"""

import codecs
import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Iterable

from cnnbench.storage.text import make_lines_printable, make_printable

log = logging.getLogger("cnnbench")
ERROR_HANDLER = "cnnbench.replace"
READER_GONE = (errno.EPIPE, errno.EIO)  # the other end of a pipe was closed; the terminal was closed


def prepare_streams() -> None:
    """Open closed standard streams on the null device, and write `?` for characters that an encoding lacks."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this descriptor
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if descriptor == 0 else "w", encoding="utf-8"))
    codecs.register_error(ERROR_HANDLER, _replace)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # tests install streams of other types
            errors = ERROR_HANDLER if stream.errors == "strict" else stream.errors
            robust = _RobustStream(
                stream.buffer,
                stream.encoding,
                errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,  # with PYTHONUNBUFFERED, in place of line buffering
            )
            robust.replaced = stream
            setattr(sys, name, robust)


class _RobustStream(io.TextIOWrapper):
    """A stream that discards what is written once its reader has gone, instead of failing."""

    replaced: io.TextIOWrapper  # kept, because it would close the shared buffer when it is collected

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            discard_if_reader_gone(error, self.fileno())
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            discard_if_reader_gone(error, self.fileno())
            super().flush()


def discard_if_reader_gone(error: OSError, descriptor: int) -> None:
    """Point a descriptor to the null device, if the error says that its reader has gone.

    Raises:
        OSError: any other error.
    """
    if error.errno not in READER_GONE:
        raise error
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _replace(error: UnicodeError) -> tuple[bytes, int]:
    """Keep the bytes of a file name that is not UTF-8; other characters become `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = map(ord, error.object[error.start : error.end])
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


class _LogHandler(logging.Handler):
    """Writes messages to standard error, above a progress bar if there is one; tracebacks stay in the log file."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # not at the top: help and completion do without it

        prefix = "warning: " if record.levelno == logging.WARNING else ""
        with contextlib.suppress(OSError, ValueError):  # a full disk or a closed stream must not stop the run
            # With the lock, Ctrl-C at the moment when tqdm takes it would surface as an error inside tqdm.
            tqdm.write(make_lines_printable(prefix + record.getMessage()), file=sys.stderr, nolock=True)


def show_warnings(texts: Iterable[str]) -> None:
    """Print a line for each warning on standard error."""
    for text in texts:
        print(f"warning: {make_printable(text)}", file=sys.stderr)


def show_log(level: int = logging.INFO) -> None:
    """Show log messages from this level on, on standard error; warnings look as those of `show_warnings`."""
    log.setLevel(level)
    log.propagate = False
    log.handlers = [_LogHandler()]
