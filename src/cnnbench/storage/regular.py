"""Bounded reads of files from strangers: regular files only, never larger than the reader allows."""

import errno
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from cnnbench.storage.text import format_path, make_lines_printable

_KINDS = (
    (stat.S_ISLNK, "a symbolic link, not a file"),
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a FIFO, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)
# A FIFO may replace the file between stat and open; without O_NONBLOCK the open would then block.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Refused(Exception):
    """A file is not accepted; the text gives the reason. Callers turn it into an error that names the file."""


def read_regular(
    file: str | bytes | os.PathLike, max_bytes: int, *, follow_links: bool = True, first: int | None = None
) -> bytes:
    """The content of a regular file.

    Args:
        follow_links: whether a symbolic link to a regular file is accepted.
        first: how many bytes to read; None reads all.

    Raises:
        Refused: not a regular file, more than `max_bytes`, or unreadable.
    """
    try:
        path = os.fspath(file)
        # Anything else must not even be opened: that may block, or have effects.
        _check_kind(os.stat(path, follow_symlinks=follow_links), max_bytes)
        descriptor = os.open(path, _OPEN_FLAGS | (0 if follow_links else _NO_FOLLOW))
        try:
            found = os.fstat(descriptor)
            _check_kind(found, max_bytes)  # again: another file may have its name now
            if first is not None:
                return os.read(descriptor, first)
            parts = [os.read(descriptor, found.st_size + 1)]
            # One read returns at most 2 GB, and a signal may cut it short.
            while parts[-1] and sum(map(len, parts)) < found.st_size:
                parts.append(os.read(descriptor, found.st_size))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refused(error.strerror or str(error)) from None
    except ValueError as error:  # a null byte in the path
        raise Refused(str(error)) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a file in a run folder; symbolic links are not followed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file, or more than `largest` bytes.
    """
    try:
        return read_regular(path, largest, follow_links=False)
    except Refused as error:
        if not path.is_symlink() and not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        raise ValueError(f"{format_path(path)} cannot be read: {error}") from None


def refuse_damaged(path: Path, reason: object) -> NoReturn:
    """Raise the `ValueError` of a file whose content is not acceptable."""
    raise ValueError(f"{format_path(path)} is damaged: {make_lines_printable(str(reason))}") from None


def check_regular(file: str | os.PathLike[str], max_bytes: int) -> int:
    """The size of a file that is safe to open.

    Raises:
        Refused: not a regular file, or more than `max_bytes`.
        OSError: there is no such file.
    """
    found = os.stat(file)
    _check_kind(found, max_bytes)
    return found.st_size


def _check_kind(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(_describe_kind(found.st_mode))
    if found.st_size > max_bytes:
        raise Refused(f"{found.st_size:,} bytes: the limit is {max_bytes:,}")


def _describe_kind(mode: int) -> str:
    return next((words for test, words in _KINDS if test(mode)), "not a regular file")


def open_to_append(path: str | os.PathLike[str]) -> int:
    """A descriptor that appends to a regular file, which is created if needed.

    Raises:
        ValueError: the path is something else, such as a link or a FIFO.
        OSError: it cannot be opened.
    """
    try:
        if os.path.lexists(path):
            _check_kind(os.stat(path, follow_symlinks=False), sys.maxsize)
        flags = (_OPEN_FLAGS & ~os.O_RDONLY) | os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_FOLLOW
        descriptor = os.open(path, flags, 0o666)
        _check_kind(os.fstat(descriptor), sys.maxsize)
    except Refused as error:
        raise ValueError(f"{format_path(path)} is {error}") from None
    return descriptor


def refuse_irregular(folder: str | os.PathLike[str], *, except_in: Collection[str] = ()) -> None:
    """Refuse a folder that holds, at any depth, anything but files and folders.

    Args:
        except_in: names of folders whose content is ignored, because nothing is read or written there.

    Raises:
        ValueError: naming the first offender.
    """
    for inside, folders, files in os.walk(os.fspath(folder)):
        for name in sorted((*folders, *files)):
            path = os.path.join(inside, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError:  # removed meanwhile, such as a temporary file
                continue
            # A symbolic link would lead reads and writes out of the folder; a FIFO would block them.
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                help_ = "Replace it by what it points to" if stat.S_ISLNK(mode) else "Remove it"
                raise ValueError(
                    f"{format_path(path)} is {_describe_kind(mode)}: "
                    f"a run folder is read and written only as plain files. {help_}"
                )
        folders[:] = [name for name in folders if name not in except_in]
