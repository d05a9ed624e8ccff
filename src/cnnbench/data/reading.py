"""Files of a folder that anybody may have filled: read only if regular, named so that a terminal is safe."""

import os
import stat

_KINDS = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a FIFO, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)
# Without O_NONBLOCK, a FIFO that takes the file's place between stat and open would be waited for.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


class Refused(Exception):
    """A file that is not accepted; the text says why. Never seen outside: it becomes an error that names the file."""


def shown_name(file: str | bytes | os.PathLike) -> str:
    r"""A path as it may be printed: control and format characters (newlines, bidi marks) and bad UTF-8 as \x…, \u…."""
    return printable(os.fsdecode(file))


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how os.fsdecode carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def read_regular(file: str | bytes | os.PathLike, max_bytes: int) -> bytes:
    """A regular file's content; nothing else is opened, because opening alone may wait or have effects.

    Raises:
        Refused: it is something else, has more than `max_bytes`, or cannot be read.
    """
    try:
        path = os.fspath(file)
        _check_kind(os.stat(path), max_bytes)
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            found = os.fstat(descriptor)
            _check_kind(found, max_bytes)
            parts = [os.read(descriptor, found.st_size + 1)]
            while parts[-1] and sum(map(len, parts)) < found.st_size:  # one read gives 2 GB at most, or is interrupted
                parts.append(os.read(descriptor, found.st_size))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refused(error.strerror or str(error)) from None
    except ValueError as error:  # a null byte in the path
        raise Refused(str(error)) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_kind(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for test, words in _KINDS if test(found.st_mode)), "not a regular file")
        raise Refused(kind)
    if found.st_size > max_bytes:
        raise Refused(f"{found.st_size:,} bytes: accepted are up to {max_bytes:,}")
