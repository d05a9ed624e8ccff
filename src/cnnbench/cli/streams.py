"""Standard streams that stop nothing: closed ones, encodings that lack a character, readers that have gone."""

import codecs
import errno
import io
import os
import sys

REPLACED = "cnnbench.replaced"  # how what an encoding lacks is written
GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; the terminal has been closed


def have_streams() -> None:
    """Standard streams that were closed lead nowhere, and characters that the encoding lacks become question marks."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if descriptor == 0 else "w", encoding="utf-8"))
    codecs.register_error(REPLACED, _replaced)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # no test's own
            errors = REPLACED if stream.errors == "strict" else stream.errors
            buffered = stream.line_buffering
            unread = _Unread(stream.buffer, stream.encoding, errors, line_buffering=buffered)
            unread.kept = stream
            setattr(sys, name, unread)


class _Unread(io.TextIOWrapper):
    """A stream whose reader may go away: from then on what is written leads nowhere, and that is no failure."""

    kept: io.TextIOWrapper  # that it replaces, which would close their buffer with its own end

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            nobody_reads(error, self.fileno())
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            nobody_reads(error, self.fileno())
            super().flush()


def nobody_reads(error: OSError, descriptor: int) -> None:
    """Let a descriptor lead nowhere, if what it led to has gone.

    Raises:
        OSError: the error, if it says something else.
    """
    if error.errno not in GONE:
        raise error
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _replaced(error: UnicodeError) -> tuple[bytes, int]:
    """The bytes of a file's name that is not UTF-8 stay what they are; other characters become `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = map(ord, error.object[error.start : error.end])
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end
