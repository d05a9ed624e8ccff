"""Decoded images in a file that is mapped into memory.

    pixels | what they are, as JSON | its length and its SHA-256

The pixels have a SHA-256 for every chunk, and all are compared whenever the file is opened: a bit that has flipped on
the disk is found, for about a second a gigabyte. A .npy file or safetensors would not protect its own header.
"""

import hashlib
import math
import os
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, NonNegativeInt

from cnnbench.data.files.decoding import Chunk
from cnnbench.data.hashing import to_numbers
from cnnbench.processes.cores import count_cores
from cnnbench.storage.atomic import TEMPORARY, write_atomically

Shape = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt]  # (N, C, H, W)
TAIL = struct.Struct("<Q32s")
ABANDONED = 24 * 3600.0  # seconds after which a file that was never finished is removed


@dataclass(frozen=True)
class Stored:
    """Decoded images.

    Attributes:
        pixels: uint8, (N, C, H, W).
        bad: why an image cannot be used, by its row.
        hashes: int64, (N, 2), of each file and of its pixels; also of images whose pixels are not kept.
    """

    pixels: np.ndarray
    bad: dict[int, str]
    hashes: np.ndarray


class Damaged(Exception):
    """A file of decoded images is not as it was written."""


class _Description(BaseModel):
    """What the pixels are; `digests` has how many images each chunk holds, and its SHA-256."""

    key: str
    shape: Shape
    digests: list[tuple[NonNegativeInt, str]]
    bad: dict[int, str]
    hashes: str


def open_store(path: Path, key: str) -> Stored | None:
    """Map a file that `write_store` wrote; None if there is none, or one of another key.

    Raises:
        Damaged: a bit of it has changed, or it is cut short.
    """
    try:
        with open(path, "rb") as file:
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
    # Copy on write: torch wants memory that it may write to, and the file stays as it is.
    pixels = np.memmap(path, np.uint8, "c", shape=found.shape) if end > length else np.empty(found.shape, np.uint8)
    chunks = [pixels[start:stop] for start, stop in pairwise(ends)]
    with ThreadPoolExecutor(count_cores()) as threads:
        if [*threads.map(_digest, chunks)] != [digest for _, digest in found.digests]:
            raise Damaged("a checksum of its pixels is wrong")
    return Stored(pixels, found.bad, hashes)


def write_store(path: Path, key: str, shape: Shape, chunks: Iterable[Chunk]) -> None:
    """Put a file of decoded images into place as one step.

    Args:
        shape: (N, C, H, W) of all images; where N is 0, only what is known of them is kept.

    Raises:
        OSError: it cannot be written; there is nothing of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clean_up(path.parent)
    digests: list[tuple[int, str]] = []
    size = math.prod(shape)
    with write_atomically(path) as file:
        if size and hasattr(os, "posix_fallocate"):  # a full disk is noticed before anything is decoded
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
    """The same without a file."""
    pixels = np.empty(shape, np.uint8)

    def add(row: int, images: np.ndarray) -> None:
        pixels[row : row + len(images)] = images

    bad, hashes = _gather(chunks, add)
    return Stored(pixels, bad, to_numbers(hashes).reshape(-1, 2))


def _gather(chunks: Iterable[Chunk], add: Callable[[int, np.ndarray], None]) -> tuple[dict[int, str], bytes]:
    """Hand each chunk's row and images over; return why images are bad, by their rows, and the hashes of all."""
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
        with suppress(OSError):  # another process was quicker
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
