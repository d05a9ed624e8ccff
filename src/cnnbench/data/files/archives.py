"""Archives and compressed files, unpacked so that nothing comes of them but regular files inside one folder.

Names must stay inside, links, devices and whatever else is no file or folder are refused, and what is unpacked is
counted as it comes: a header is never believed, and a few kilobytes cannot fill a disk or the memory.
"""

import bz2
import contextlib
import gzip
import itertools
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path

LARGEST = 4 * 2**30  # bytes of all files of an archive
MOST_FILES = 100  # EMNIST has 24
MOST_RATIO = 200  # unpacked to packed; images reach 20
CHUNK = 2**20
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
MAGIC = {b"\x1f\x8b": ".gz", b"BZ": ".bz2", b"\xfd7": ".xz"}
PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
FAULTS = (
    Refused, OSError, EOFError, ValueError, LookupError, RuntimeError, RecursionError, ArithmeticError, MemoryError,
    NotImplementedError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error,
)  # fmt: skip


def unpack(archive: Path, folder: Path, *, only: Collection[str] | None = None, largest: int = LARGEST) -> list[Path]:
    """Unpack a zip or tar archive, the latter compressed or not.

    Each file takes its place in one step. Files that are there already are replaced.

    Args:
        only: the names of the files wanted, without folders; None is all.
        largest: how many bytes all files may have together.

    Returns:
        The files, in the archive's order.

    Raises:
        ValueError: the archive is damaged, too large, or holds anything but files and folders inside of it; what was
            unpacked before that was found out is removed.
    """
    made: list[Path] = []
    try:
        packed = check_regular(archive, largest)
        limit = min(largest, MOST_RATIO * packed + CHUNK)
        with open(archive, "rb") as file:
            members = _zipped(file, limit) if zipfile.is_zipfile(file) else _tarred(archive, limit)
            for number, (name, content) in enumerate(members):
                if number >= MOST_FILES:
                    raise Refused(f"it has more than {MOST_FILES:,} files")
                parts = _parts(name)
                if only is not None and parts[-1] not in only:
                    continue
                path = _place(folder, parts)
                if path in made:
                    raise Refused(f"it has {format_path(name)!r} twice")
                with write_atomically(path) as target:
                    for chunk in content:
                        target.write(chunk)
                made.append(path)
    except FAULTS as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise ValueError(f"{format_path(archive)} is not unpacked: {error or type(error).__name__}") from None
    return made


def decompress(source: Path, target: Path, *, largest: int = LARGEST) -> None:
    """Unpack a single file compressed as gz, bz2 or xz, as its name says.

    Raises:
        ValueError: it is damaged or too large; there is no target then.
    """
    try:
        limit = min(largest, MOST_RATIO * check_regular(source, largest) + CHUNK)
        with OPENERS[source.suffix](source) as packed, write_atomically(target) as file:
            for chunk in _chunks(_Bounded(packed, limit), limit + 1):
                file.write(chunk)
    except FAULTS as error:
        raise ValueError(f"{format_path(source)} is not unpacked: {error or type(error).__name__}") from None


def decompressed(source: Path, *, largest: int) -> bytes:
    """The content of a single file compressed as gz, bz2 or xz.

    Raises:
        ValueError: it is damaged or too large.
    """
    try:
        check_regular(source, largest)
        with OPENERS[source.suffix](source) as packed:
            return b"".join(_chunks(_Bounded(packed, largest), largest + 1))
    except FAULTS as error:
        raise ValueError(f"{format_path(source)} is not unpacked: {error or type(error).__name__}") from None


class _Bounded:
    """A file to be read once, from its start to its end, and not beyond a limit.

    tarfile reads a header that says it is a gigabyte in one go: such a read is refused before it is tried.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file, self.limit, self.position = file, limit, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer only at the end."""
        if not 0 <= size <= CHUNK:
            raise Refused(f"it asks for {size:,} bytes at once")
        content = self.file.read(size)
        self.position += len(content)
        if self.position > self.limit:
            raise Refused(f"it unpacks to more than {self.limit:,} bytes")
        return content

    def tell(self) -> int:
        """How far it has been read."""
        return self.position

    def seek(self, position: int) -> int:
        """Read on to a position; there is no way back."""
        if position < self.position:
            raise Refused("its parts are not in order")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass
        return self.position


def _tarred(archive: Path, limit: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(archive, "rb"))
        suffix = MAGIC.get(raw.read(2))
        raw.seek(0)
        source = _Bounded(stack.enter_context(OPENERS[suffix](raw)) if suffix else raw, limit)
        for member in stack.enter_context(tarfile.TarFile(fileobj=source)):  # type: ignore[arg-type]
            if member.isdir():
                continue  # folders are made for their files
            if member.type not in PLAIN_TYPES or member.sparse is not None or member.size < 0:
                raise Refused(f"it holds {format_path(member.name)!r}, which is no plain file")
            source.seek(member.offset_data)
            yield member.name, _exactly(source, member.size)


def _zipped(file: IO[bytes], limit: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _refuse_overlaps(members)
        total = 0
        for member in members:
            mode = member.external_attr >> 16
            if member.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or member.flag_bits & 1:
                raise Refused(f"it holds {format_path(member.filename)!r}, which is no plain file")
            total += member.file_size
            if total > limit:
                raise Refused(f"it unpacks to more than {limit:,} bytes")
            with archive.open(member) as content:
                yield member.filename, _exactly(_Bounded(content, member.file_size), member.file_size)


def _refuse_overlaps(members: list[zipfile.ZipInfo]) -> None:
    """Of a file that stands for many, each of them would be unpacked."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    for one, following in itertools.pairwise(ordered):
        if one.header_offset + one.compress_size > following.header_offset:
            raise Refused("its files overlap")


def _exactly(source: _Bounded, size: int) -> Iterator[bytes]:
    rest = size
    for chunk in _chunks(source, size):
        rest -= len(chunk)
        yield chunk
    if rest:
        raise Refused("it is cut short")


def _chunks(source: _Bounded, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := source.read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


def _parts(name: str) -> list[str]:
    """A member's folders and name.

    Raises:
        Refused: they lead out of the folder, or are no name of a file.
    """
    parts = [part for part in name.split("/") if part != "."]
    bad = not parts or any(part in ("", "..") or "\\" in part or "\0" in part or ":" in part for part in parts)
    if bad or max(len(os.fsencode(part)) for part in parts) > 255 or len(parts) > 20:
        raise Refused(f"it holds {format_path(name)!r}, which does not stay in its folder")
    return parts


def _place(folder: Path, parts: list[str]) -> Path:
    """Where a member goes; folders on the way are made, and links among them refused."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts[:-1]:
        folder = folder / part
        if folder.is_symlink():
            raise Refused(f"{format_path(folder)} is a symbolic link")
        folder.mkdir(exist_ok=True)
    return folder / parts[-1]
