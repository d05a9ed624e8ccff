"""Unpack archives and compressed files: only regular files, only into one folder, and within bounds."""

import bz2
import gzip
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path

# Bytes are counted as they are unpacked: a few kilobytes must not fill the disk, whatever their header says.
LARGEST = 4 * 2**30  # bytes of all files of an archive
MOST_FILES = 100  # EMNIST has 24
MOST_RATIO = 200  # of unpacked to packed bytes; images reach 20
MOST_FOLDERS = 20  # one inside the other
CHUNK = 2**20
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
MAGIC = {b"\x1f\x8b": ".gz", b"BZ": ".bz2", b"\xfd7": ".xz"}
# What the readers of these formats raise for a damaged file.
FAULTS = (
    Refused, OSError, EOFError, ValueError, LookupError, RuntimeError, ArithmeticError, MemoryError, tarfile.TarError,
    zipfile.BadZipFile, lzma.LZMAError, zlib.error,
)  # fmt: skip


def unpack(archive: Path, folder: Path, *, only: Collection[str] | None = None) -> list[Path]:
    """Unpack a zip or tar archive, also a compressed one, and return its files in their order.

    Args:
        only: the names of the files wanted, without folders; None is all.

    Raises:
        ValueError: the archive is damaged or too large, or holds anything but files and folders inside the target;
            what has been unpacked until then is removed.
    """
    made: list[Path] = []
    try:
        limit = _compute_limit(archive)
        folder.mkdir(parents=True, exist_ok=True)
        with open(archive, "rb") as file, tempfile.TemporaryFile(dir=folder) as plain:
            members = _iterate_zip(file) if zipfile.is_zipfile(file) else _iterate_tar(file, plain, limit)
            for name, size, content in members:
                limit -= size
                if limit < 0 or len(made) == MOST_FILES:
                    raise Refused("it unpacks to more bytes or files than allowed")
                path = _resolve(folder, name)
                if only is not None and path.name not in only:
                    continue
                if path in made:
                    raise Refused(f"it has {format_path(name)!r} twice")
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, write_atomically(path) as target:
                    if _copy(content, target, size) < size:
                        raise Refused("it is truncated")
                made.append(path)
    except FAULTS as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise ValueError(f"{format_path(archive)} cannot be unpacked: {error or type(error).__name__}") from None
    return made


def decompress(source: Path, target: Path) -> None:
    """Unpack a file compressed as gz, bz2 or xz, by its ending.

    Raises:
        ValueError: it is damaged or too large; the target then does not exist.
    """
    try:
        limit = _compute_limit(source)
        with OPENERS[source.suffix](source) as packed, write_atomically(target) as file:
            _copy_within(packed, file, limit)
    except FAULTS as error:
        raise ValueError(f"{format_path(source)} cannot be unpacked: {error or type(error).__name__}") from None


def read_up_to(file: IO[bytes], size: int) -> bytearray:
    """The next bytes of a file; memory is allocated as they arrive."""
    content = bytearray()
    while len(content) < size and (chunk := file.read(min(CHUNK, size - len(content)))):
        content += chunk
    return content


def _compute_limit(packed: Path) -> int:
    """The bytes that a file may unpack to."""
    return min(LARGEST, MOST_RATIO * check_regular(packed, LARGEST) + CHUNK)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> int:
    """Copy up to `size` bytes; return how many there were."""
    copied = 0
    while copied < size and (chunk := source.read(min(CHUNK, size - copied))):
        target.write(chunk)
        copied += len(chunk)
    return copied


def _copy_within(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    if _copy(source, target, limit + 1) > limit:
        raise Refused(f"it unpacks to more than {limit:,} bytes")


def _iterate_tar(file: IO[bytes], plain: IO[bytes], limit: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each file; the archive without its compression is written to `plain`."""
    # Decompressed within the limit first, because tarfile reads at once the gigabyte that a header may claim.
    file.seek(0)
    suffix = MAGIC.get(file.read(2))
    file.seek(0)
    _copy_within(OPENERS[suffix](file) if suffix else file, plain, limit)
    plain.seek(0)
    with tarfile.TarFile(fileobj=plain) as archive:
        for member in archive:
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None or member.size < 0:
                raise Refused(f"it holds {format_path(member.name)!r}, which is not a regular file")
            yield member.name, member.size, content


def _iterate_zip(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each file; zipfile itself refuses overlapping and encrypted members."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            # The upper half is Unix's file type; 0 in archives made on Windows.
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
                raise Refused(f"it holds {format_path(member.filename)!r}, which is not a regular file")
            yield member.filename, member.file_size, archive.open(member)


def _resolve(folder: Path, name: str) -> Path:
    """Where a member goes; refuses what would leave the folder, on Windows too."""
    path = PurePosixPath(name)
    target = folder / path
    # Resolved, because a link in the folder may lead out of it; `..` is refused even where it stays inside.
    is_inside = folder.resolve() in target.resolve().parents
    if not is_inside or ".." in path.parts or len(path.parts) > MOST_FOLDERS or set(name) & {"\\", ":", "\0"}:
        raise Refused(f"it holds {format_path(name)!r}, which does not stay in its folder")
    return target
