"""Files that are either complete or absent, and folders that one process at a time writes to."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

TEMPORARY = ".tmp"  # suffix of the hidden files that are not complete yet
# Errors of file systems without hard links: FAT, some network and container file systems.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
OPEN_FILES = Path("/proc/self/fd")
LOCK = ".lock"
LOCK_TIMEOUT = 3.0  # seconds; workers that decode images outlive a killed run by up to a second


class InUse(ValueError):
    """Another process works in the folder."""


class NoneReadable(ValueError):
    """Every file that could hold the wanted content is damaged."""


@contextmanager
def open_folder(folder: Path) -> Iterator[Path]:
    """Open a folder: a path that leads to it even if it is replaced meanwhile. Links are not followed.

    Raises:
        OSError: a symbolic link or no folder. Errors raised inside name the folder by its own path.
    """
    if not (OPEN_FILES.is_dir() and hasattr(os, "O_DIRECTORY")):  # only Linux names open files
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
    except (OSError, ValueError) as error:
        # Users know the folder by its own path, not by that of the open descriptor.
        error.args = tuple(one.replace(str(inside), str(folder)) if isinstance(one, str) else one for one in error.args)
        for name in ("strerror", "filename", "filename2"):
            if isinstance(value := getattr(error, name, None), str):
                setattr(error, name, value.replace(str(inside), str(folder)))
        raise
    finally:
        with suppress(OSError):  # everything written is on the disk already
            os.close(descriptor)


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` in one step once all of it is on the disk.

    Until then it has a hidden name in the same folder. If writing fails, it is removed and `path` keeps its content.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    try:
        # A name that nobody can guess, opened with O_EXCL: no link of that name can lead the write elsewhere.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)  # minus the umask, as for any new file
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                # Without this, a power failure could leave the new name with missing content.
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    with write_atomically(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, in UTF-8."""
    write_bytes(path, text.encode())


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file and wait until it is on the disk; if the process is killed, a part may be there.

    Raises:
        OSError: it cannot be written or is not a regular file; the message names `path`.
    """
    # The file may have been replaced by a link or a FIFO: neither is written to.
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(path, "ab", opener=lambda name, _: os.open(name, flags | getattr(os, "O_BINARY", 0))) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


def _fsync_folder(folder: Path) -> None:
    """Flush a folder: a rename survives a power failure only if the folder is on the disk too."""
    if os.name == "nt":  # Windows has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(path: Path, other: Path, *, move: bool = True) -> None:
    """Make `other` the same file as `path`, in one step.

    Args:
        move: on a file system without hard links, rename `path`; otherwise copy it.
    """
    temporary = other.with_name(f".{other.name}.{os.getpid()}{TEMPORARY}")
    try:
        # os.link never replaces a file, and os.replace does so in one step.
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
    """Remove what killed processes left incomplete; the caller must hold the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, *, name: str = LOCK, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a lock on a folder; the system releases it when the process ends, so no lock is ever stale.

    Args:
        name: of the lock's file; different names are different locks.
        timeout: how long to wait for it, in seconds.

    Raises:
        InUse: another process holds it.
        OSError: it cannot be taken; the message names its file.
    """
    lock = FileLock(folder / name, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise InUse(f"{folder} is in use by another process: wait for it, or name another folder") from None
    except OSError as error:  # of the library's own calls, not all name their file
        raise OSError(error.errno, f"{folder / name} could not be locked: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
