"""Decoded images, read through a cache: a file that is mapped into memory.

    pixels | their description in JSON | its length and its SHA-256

Every chunk of pixels has a SHA-256, and all are compared whenever the file is opened: this finds a bit that has flipped
on the disk, for about a second per gigabyte. A .npy or safetensors file would not protect its own header.
"""

import functools
import hashlib
import logging
import math
import os
import struct
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import PIL
from pydantic import BaseModel, NonNegativeInt

from cnnbench.bars import open_bar
from cnnbench.data.files.decoding import Chunk, Decoder, decode_chunks
from cnnbench.data.files.images import OtherSize
from cnnbench.data.files.listing import Listing
from cnnbench.data.files.signatures import FORMATS
from cnnbench.data.hashing import to_numbers
from cnnbench.processes.cores import count_cores
from cnnbench.storage.atomic import TEMPORARY, write_atomically

log = logging.getLogger("cnnbench")

FORMAT = 3  # of the cache; raise it when the same files would decode to other pixels
Shape = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt]  # (N, C, H, W)
TAIL = struct.Struct("<Q32s")
ABANDONED = 24 * 3600.0  # seconds after which an unfinished file is removed


@dataclass(frozen=True)
class Stored:
    """Decoded images."""

    pixels: np.ndarray  # uint8 (N, C, H, W)
    bad: dict[int, str]  # why an image cannot be used, by its row
    hashes: np.ndarray  # int64 (N, 2), of each file and of its pixels, even if these are not kept


class Damaged(Exception):
    """A file of decoded images has changed since it was written."""


class _Description(BaseModel):
    """What the pixels are; `digests` has the number of images in each chunk, and its SHA-256."""

    key: str
    shape: Shape
    digests: list[tuple[NonNegativeInt, str]]
    bad: dict[int, str]
    hashes: str


def open_store(path: Path, key: str) -> Stored | None:
    """Map a file that `write_store` wrote; None if it does not exist or has another key.

    Raises:
        Damaged: a bit has changed, or it is truncated.
    """
    try:
        with open(path, "rb") as file:
            # The description is at the end, because its hashes are known only after all pixels are written.
            end = file.seek(0, os.SEEK_END) - TAIL.size
            file.seek(end)
            length, digest = TAIL.unpack(file.read())
            file.seek(end - length)
            text = file.read(length)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError, struct.error) as error:
        raise Damaged(str(error)) from None
    if hashlib.sha256(text).digest() != digest:
        raise Damaged("its description has a wrong checksum")
    try:
        found = _Description.model_validate_json(text)
        hashes = to_numbers(bytes.fromhex(found.hashes)).reshape(-1, 2)
    except ValueError:
        raise Damaged("its description is not valid") from None
    if found.key != key:
        return None
    ends = list(accumulate((count for count, _ in found.digests), initial=0))
    if ends[-1] != found.shape[0] or end - length != math.prod(found.shape):
        raise Damaged("its checksums are not those of its images")
    # Copy on write, because torch wants writable memory, and the file must not change.
    pixels = np.memmap(path, np.uint8, "c", shape=found.shape) if end > length else np.empty(found.shape, np.uint8)
    chunks = [pixels[start:stop] for start, stop in pairwise(ends)]
    # In threads, because hashing releases Python's lock.
    with ThreadPoolExecutor(count_cores()) as threads:
        if [*threads.map(_digest, chunks)] != [digest for _, digest in found.digests]:
            raise Damaged("a checksum of its pixels is wrong")
    return Stored(pixels, found.bad, hashes)


def write_store(path: Path, key: str, shape: Shape, chunks: Iterable[Chunk]) -> None:
    """Write a file of decoded images in one step.

    Args:
        shape: (N, C, H, W) of all images; with N = 0, only errors and hashes are kept.

    Raises:
        OSError: it cannot be written; then nothing of it remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clean_up(path.parent)
    digests: list[tuple[int, str]] = []
    size = math.prod(shape)
    with write_atomically(path) as file:
        if size and hasattr(os, "posix_fallocate"):  # it finds a full disk before anything is decoded
            os.posix_fallocate(file.fileno(), 0, size)

        def add(_: int, images: np.ndarray) -> None:
            if len(images):
                file.write(images.data)
                digests.append((len(images), _digest(images)))

        bad, hashes = _gather(chunks, add)
        description = _Description(key=key, shape=shape, digests=digests, bad=bad, hashes=hashes.hex())
        text = description.model_dump_json().encode()
        file.write(text + TAIL.pack(len(text), hashlib.sha256(text).digest()))


def keep_in_memory(shape: Shape, chunks: Iterable[Chunk]) -> Stored:
    """Decode into memory."""
    pixels = np.empty(shape, np.uint8)

    def add(row: int, images: np.ndarray) -> None:
        pixels[row : row + len(images)] = images

    bad, hashes = _gather(chunks, add)
    return Stored(pixels, bad, to_numbers(hashes).reshape(-1, 2))


def _gather(chunks: Iterable[Chunk], add: Callable[[int, np.ndarray], None]) -> tuple[dict[int, str], bytes]:
    """Pass the first row and the images of each chunk to `add`; return why images are bad, by row, and all hashes."""
    bad: dict[int, str] = {}
    hashes, row = [], 0
    for chunk in chunks:
        add(row, chunk.images)
        bad |= {row + place: error.reason for place, error in chunk.bad.items()}
        hashes.append(chunk.hashes)
        row += chunk.files
    return bad, b"".join(hashes)


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.data).hexdigest()


def _clean_up(folder: Path) -> None:
    for path in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


@dataclass(frozen=True)
class Part:
    """Files to decode together, and their cache; the key changes with any of them and with how they are decoded."""

    key: str
    paths: Sequence[str] = field(compare=False)
    decoder: Decoder = field(compare=False)
    cache: Path | None = field(compare=False)
    workers: int = field(compare=False)

    @classmethod
    def from_listing(
        cls,
        listing: Listing,
        rows: range,
        decoder: Decoder,
        cache: str | None,
        workers: int,
        place: tuple[object, ...],
    ) -> "Part":
        """Some rows of a listing.

        Args:
            cache: a folder, or `auto` for the user's cache folder.
            place: how the test split is cut, and whether these rows are it.
        """
        digest = hashlib.sha256(f"{FORMAT} {PIL.__version__} {FORMATS} {decoder} {len(rows)}".encode())
        digest.update(os.fsencode("\0".join(listing.paths[rows.start : rows.stop])))
        digest.update(listing.versions[rows.start : rows.stop].tobytes())
        file = None if cache is None else name_cache_file(cache, listing.path, f"{decoder} {place}")
        return cls(digest.hexdigest(), listing.make_paths(rows), decoder, file, workers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the images that are kept."""
        return (0 if self.decoder.drops else len(self.paths), *self.decoder.how.shape)

    def decode(self) -> Generator[Chunk, None, None]:
        """Decode all files, with a progress bar.

        Raises:
            OtherSize: the decoder does not resize, and an image has another size.
        """
        with (
            closing(decode_chunks(self.paths, self.decoder, self.workers)) as chunks,
            open_bar(total=len(self.paths), desc="decoding", unit="img", unit_scale=True) as bar,
        ):
            for chunk in chunks:
                for error in chunk.bad.values():
                    if isinstance(error, OtherSize):
                        raise error
                yield chunk
                bar.update(chunk.files)


def name_cache_file(cache: str, path: str, how: str) -> Path:
    """The cache file of what is made from a folder or file: one for each way of making it."""
    folder = Path(cache).expanduser()
    if cache == "auto":
        folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cnnbench")
    identity = hashlib.sha256(how.encode() + os.fsencode(os.path.realpath(path))).hexdigest()
    return folder / f"{identity[:24]}.pixels"


@functools.lru_cache(maxsize=4)
def read_part(part: Part) -> Stored:
    """The decoded images, from the cache or decoded now; those of the last few parts stay in memory."""
    if part.cache is None:
        return keep_in_memory(part.shape, part.decode())
    try:
        if found := open_store(part.cache, part.key):
            log.info("%d images were read from the cache %s", len(part.paths), part.cache)
            return found
    except Damaged as damage:
        log.warning("%s is damaged: %s. Decoding the images again", part.cache, damage)
    try:
        with closing(part.decode()) as chunks:
            write_store(part.cache, part.key, part.shape, chunks)
        if found := open_store(part.cache, part.key):
            return found
        log.warning("data.cache: another process replaced %s: this run continues without it", part.cache)
    except (OSError, Damaged) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        log.warning("data.cache: %s cannot be written (%s): this run continues without it", part.cache, reason)
    return keep_in_memory(part.shape, part.decode())
