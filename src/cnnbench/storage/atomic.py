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
    """A path that leads to a folder even if another takes its place meanwhile. Links are not followed.

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
        with suppress(OSError):  # everything that was written is on the disk already
            os.close(descriptor)


@contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Name the file that could not be written: errors name a temporary file, or none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` in one step once all of it is on the disk.

    Until then it has a hidden name in the same folder. If writing fails, it is removed and `path` keeps its content.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    with _name_in_errors(path):
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


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    with write_atomically(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8, in one step."""
    write_bytes(path, text.encode())


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file and wait until it is on the disk; if the process is killed, a part may be there.

    Raises:
        OSError: it cannot be written or is not a regular file; the message names `path`.
    """
    # The file may have been replaced by a link or a FIFO: neither is written to.
    flags = os.O_WRONLY | os.O_APPEND
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # no system has all of these
        flags |= getattr(os, name, 0)
    with _name_in_errors(path), open(path, "ab", opener=lambda name, _: os.open(name, flags)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    # A rename survives a power failure only if the folder is on the disk too.
    if os.name == "nt":  # Windows cannot open a folder
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
        with _name_in_errors(other):
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
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left incomplete; the caller must hold the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, *, name: str = LOCK, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a lock on a folder.

    Args:
        name: of the lock's file; different names are different locks.
        timeout: how long to wait for it, in seconds.

    Raises:
        InUse: another process holds it.
        OSError: it cannot be taken; the message names its file.
    """
    # The system releases it when the process ends, however that happens: no lock is ever stale.
    lock = FileLock(folder / name, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise InUse(f"{folder} is in use by another process: wait for it, or name another folder") from None
    except OSError as error:  # not all of the library's errors name the file
        raise OSError(error.errno, f"{folder / name} could not be locked: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
