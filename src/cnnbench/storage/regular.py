"""Files of a folder that anybody may have filled: read only if they are regular and not too large."""

import os
import stat
import sys
from collections.abc import Collection

from cnnbench.storage.text import shown_name

_KINDS = (
    (stat.S_ISLNK, "a symbolic link, not a file"),
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


def read_regular(
    file: str | bytes | os.PathLike, max_bytes: int, *, follow_links: bool = True, first: int | None = None
) -> bytes:
    """A regular file's content; nothing else is opened, because opening alone may wait or have effects.

    Args:
        follow_links: whether the file may be a symbolic link to one.
        first: how many bytes are wanted; None is all of them.

    Raises:
        Refused: it is something else, has more than `max_bytes`, or cannot be read.
    """
    try:
        path = os.fspath(file)
        _check_kind(os.stat(path, follow_symlinks=follow_links), max_bytes)
        descriptor = os.open(path, _OPEN_FLAGS | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0)))
        try:
            found = os.fstat(descriptor)
            _check_kind(found, max_bytes)
            if first is not None:
                return os.read(descriptor, first)
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


def check_regular(file: str | os.PathLike[str], max_bytes: int) -> int:
    """The length of a file that may be opened.

    Raises:
        Refused: it is not regular, or has more than `max_bytes`.
        OSError: it is not there.
    """
    found = os.stat(file)
    _check_kind(found, max_bytes)
    return found.st_size


def _check_kind(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(_kind(found.st_mode))
    if found.st_size > max_bytes:
        raise Refused(f"{found.st_size:,} bytes: accepted are up to {max_bytes:,}")


def open_to_append(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, new or not, that is written to at its end; nothing else is waited for.

    Raises:
        ValueError: there is something else of that name.
        OSError: it cannot be opened.
    """
    try:
        if os.path.lexists(path):
            _check_kind(os.stat(path, follow_symlinks=False), sys.maxsize)
        flags = (_OPEN_FLAGS & ~os.O_RDONLY) | os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        _check_kind(os.fstat(descriptor), sys.maxsize)
    except Refused as error:
        raise ValueError(f"{shown_name(path)} is {error}") from None
    return descriptor


def refuse_irregular(folder: str | os.PathLike[str], *, except_in: Collection[str] = ()) -> None:
    """Look below a folder for what is neither a file nor a folder.

    Through a symbolic link, reading and writing would leave the folder; a FIFO would be waited for.

    Args:
        except_in: names of folders whose own links are let be, for nothing is read or written there.

    Raises:
        ValueError: naming the first.
    """
    for inside, folders, files in os.walk(os.fspath(folder)):
        for name in sorted((*folders, *files)):
            path = os.path.join(inside, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError:  # gone meanwhile, such as a temporary file
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ValueError(
                    f"{shown_name(path)} is {_kind(mode)}: a run folder is read and written only as plain files. "
                    f"{'Put what it leads to in its place' if stat.S_ISLNK(mode) else 'Remove it'}"
                )
        folders[:] = [name for name in folders if name not in except_in]


def _kind(mode: int) -> str:
    return next((words for test, words in _KINDS if test(mode)), "not a regular file")
