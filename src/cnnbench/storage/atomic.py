"""Files that are whole or not there, and folders that one process at a time writes into."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

TEMPORARY = ".tmp"  # how the hidden names of files end that are not whole yet
# What the systems without hard links answer: FAT, some network and container file systems.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
OPEN_FILES = Path("/proc/self/fd")
LOCK = ".lock"
WAITS = 3.0  # seconds for a lock: processes that decode images outlive a killed run for a second


class InUse(ValueError):
    """Another process works in the folder."""


class NoneReadable(ValueError):
    """Of the files that should hold something, each is damaged."""


@contextmanager
def opened_folder(folder: Path) -> Iterator[Path]:
    """A folder under a name that stays its own, whatever is put in its place meanwhile; never one that a link leads to.

    Raises:
        OSError: there is a symbolic link in its place, or no folder; also what is raised within, with its own name.
    """
    if not (OPEN_FILES.is_dir() and hasattr(os, "O_DIRECTORY")):  # only Linux has such names
        if folder.is_symlink():
            raise OSError(errno.ELOOP, f"{folder} is a symbolic link now")
        yield folder
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        why = "is a symbolic link now" if folder.is_symlink() else f"cannot be opened: {error.strerror}"
        raise OSError(error.errno, f"{folder} {why}") from error
    inside = OPEN_FILES / str(descriptor)
    try:
        yield inside
    except (OSError, ValueError) as error:  # its words name the folder, as users know it
        error.args = tuple(one.replace(str(inside), str(folder)) if isinstance(one, str) else one for one in error.args)
        for name in ("strerror", "filename", "filename2"):
            if isinstance(said := getattr(error, name, None), str):
                setattr(error, name, said.replace(str(inside), str(folder)))
        raise
    finally:
        with suppress(OSError):  # what was written is on the disk by now
            os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` as one step, once all of it is on the disk.

    It lies in the same folder under a hidden name; where writing fails, it is gone and `path` is as it was.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    try:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)  # less what the umask takes away
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, and wait until it is on the disk; a process that is killed may have added a part of it.

    Raises:
        OSError: it cannot be written, or is no file; the message names `path`.
    """
    # Neither through a link nor into a FIFO that has taken the file's place.
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(path, "ab", opener=lambda name, _: os.open(name, flags | getattr(os, "O_BINARY", 0))) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def _fsync_folder(folder: Path) -> None:
    """Names of files are on the disk only once their folder is."""
    if os.name == "nt":  # it has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(path: Path, other: Path, *, move: bool = True) -> None:
    """Let `other` be the same file as `path`, in one step.

    Args:
        move: where the file system has no hard links, rename instead; otherwise copy.
    """
    temporary = other.with_name(f".{other.name}.{os.getpid()}{TEMPORARY}")
    try:
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if move:
                os.replace(path, other)
                return
            shutil.copyfile(path, temporary)
        os.replace(temporary, other)
    except OSError as error:
        raise OSError(error.errno, f"{other} could not be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Remove what a process that was killed left half-written; only for who holds the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, name: str = LOCK, waits: float = WAITS) -> Iterator[None]:
    """Within it, no other process has the folder locked.

    The system lets go of the lock of a process that ends, however it ends: none is ever stale.

    Args:
        name: of the lock's file; another name locks something else in the folder.

    Raises:
        InUse: another process has it.
    """
    lock = FileLock(folder / name, timeout=waits)
    try:
        lock.acquire()
    except Timeout:
        raise InUse(f"{folder} is in use by another process: wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()
