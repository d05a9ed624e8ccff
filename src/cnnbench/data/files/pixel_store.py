"""Decoded images: raw pixels in a file that is mapped into memory, or in memory alone.

    pixels | what they are, as JSON | its SHA-256 | its length, 8 bytes, little-endian | MAGIC

One file, so that renaming it puts all of it into place at once. The pixels have a SHA-256 for every block of images,
compared whenever the file is opened: whatever flips a bit on the disk is found out, for about a second a gigabyte.
"""

import hashlib
import json
import logging
import math
import operator
import os
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnbench.processes.cores import cores

log = logging.getLogger("cnnbench")

MAGIC = b"cnnbPX01"
TAIL = 32 + 8 + len(MAGIC)
ABANDONED = 24 * 3600.0  # seconds after which a file that was never finished is removed


class Block(NamedTuple):
    """Some images one after the other.

    Attributes:
        start: the row of the first.
        pixels: uint8, (n, C, H, W); zeros where an image is bad.
        digest: the pixels' SHA-256.
        bad: why an image cannot be used, by its row.
        files: how many were looked at; without any that are kept, more than there are pixels.
        hashes: of each file looked at, the short hash of the file and that of its pixels, 16 bytes together.
    """

    start: int
    pixels: np.ndarray
    digest: str
    bad: dict[int, str]
    files: int
    hashes: bytes


@dataclass(frozen=True)
class Stored:
    """Decoded images.

    Attributes:
        pixels: uint8, (N, C, H, W).
        bad: why an image cannot be used, by its row.
        hashes: as in `Block`, of all files.
    """

    pixels: np.ndarray
    bad: dict[int, str]
    hashes: bytes


class Damaged(Exception):
    """A file of decoded images that is not as it was written."""


def open_store(path: Path, key: str) -> Stored | None:
    """Map a file that `Writer` wrote; None if there is none, or one of another key.

    Raises:
        Damaged: a bit of it has changed, or it is cut short.
    """
    try:
        with open(path, "rb") as file:
            described, end = _described(file.read, file.seek)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None
    if described.get("key") != key:
        return None
    shape, blocks, bad, hashes = _checked(described)
    if end != math.prod(shape):
        raise Damaged("it has another length")
    # Copy on write: torch wants memory that it may write to, and the file stays as it is.
    pixels = np.memmap(path, np.uint8, "c", shape=shape) if end else np.empty(shape, np.uint8)
    with ThreadPoolExecutor(cores()) as threads:
        matches = threads.map(lambda block: _digest(pixels[block[0] : block[1]]) == block[2], blocks)
        if not all(matches):
            raise Damaged("a checksum of its pixels is wrong")
    return Stored(pixels, bad, hashes)


def _described(read: Any, seek: Any) -> tuple[dict[str, Any], int]:
    """The JSON at the end of a file, and where it begins."""
    end = seek(0, os.SEEK_END)
    if end < TAIL:
        raise Damaged("it is cut short")
    seek(end - TAIL)
    tail = read(TAIL)
    length = int.from_bytes(tail[32:40], "little")
    start = end - TAIL - length
    if tail[40:] != MAGIC or start < 0:
        raise Damaged("it does not end as it should")
    seek(start)
    text = read(length)
    if hashlib.sha256(text).digest() != tail[:32]:
        raise Damaged("its description has a wrong checksum")
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged("its description is no JSON") from None
    if not isinstance(described, dict):
        raise Damaged("its description has no keys")
    return described, start


def _checked(described: dict[str, Any]) -> tuple[tuple[int, ...], list[tuple[int, int, str]], dict[int, str], bytes]:
    """Shape, blocks, bad rows and hashes, if each row belongs to a block: one that does not would have no checksum."""
    try:
        shape = tuple(operator.index(side) for side in described["shape"])
        blocks = sorted((operator.index(a), operator.index(b), str(digest)) for a, b, digest in described["blocks"])
        bad = {operator.index(row): str(reason) for row, reason in described["bad"]}
        hashes = bytes.fromhex(described["hashes"])
    except (KeyError, TypeError, ValueError):
        raise Damaged("its description lacks something") from None
    ends = [0, *(stop for _, stop, _ in blocks)]
    joined = all(start == end for (start, _, _), end in zip(blocks, ends, strict=False))
    if len(shape) != 4 or min(shape) < 0 or (shape[0] and not (joined and ends[-1] == shape[0])):
        raise Damaged("its checksums are not those of its images")
    return shape, blocks, bad, hashes


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.data if pixels.flags.c_contiguous else pixels.tobytes()).hexdigest()


class Writer:
    """Takes blocks in any order and stores them in a file, or where that is not possible in memory.

    `start` comes first, and `close` last, whatever happens between.

    Args:
        path: the file that `finish` puts into place; None is memory.
        shape: (N, C, H, W) of all of it.
    """

    def __init__(self, path: Path | None, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.path = path
        self.blocks: list[tuple[int, int, str]] = []
        self.hashes: dict[int, bytes] = {}
        self.bad: dict[int, str] = {}
        self.temporary: Path | None = None
        self.pixels: np.ndarray | None = None
        self.descriptor = -1

    def start(self) -> None:
        """Make room for all of it."""
        if self.path is None:
            self.pixels = np.zeros(self.shape, np.uint8)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_abandoned(self.path.parent)
            # The name is known before there is a file: whatever interrupts this, `close` finds it.
            self.temporary = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(8)}.part")
            self.descriptor = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            if hasattr(os, "posix_fallocate") and np.prod(self.shape):
                os.posix_fallocate(self.descriptor, 0, int(np.prod(self.shape)))
        except OSError as error:
            self._to_memory(error)

    def add(self, block: Block) -> None:
        """Store some images."""
        stop = block.start + len(block.pixels)
        self.bad |= block.bad
        self.hashes[block.start] = block.hashes
        if self.pixels is None:
            try:
                self._write(block.pixels, block.start * int(np.prod(self.shape[1:])))
            except OSError as error:
                self._to_memory(error)
        if self.pixels is not None:
            self.pixels[block.start : stop] = block.pixels
        self.blocks.append((block.start, stop, block.digest))

    def finish(self, key: str) -> Stored:
        """Put the file into place and map it."""
        hashes = b"".join(several for _, several in sorted(self.hashes.items()))
        if self.pixels is None:
            assert self.path is not None
            assert self.temporary is not None
            try:
                self._describe(key, hashes)
                os.fsync(self.descriptor)
                pixels: np.ndarray = np.empty(self.shape, np.uint8)
                if pixels.size:
                    pixels = np.memmap(self.temporary, np.uint8, "c", shape=self.shape)
                os.replace(self.temporary, self.path)
                self.temporary = None
                self.close()
                return Stored(pixels, self.bad, hashes)
            except OSError as error:
                self._to_memory(error)
        assert self.pixels is not None
        return Stored(self.pixels, self.bad, hashes)

    def close(self) -> None:
        """Remove what was not finished."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)
            self.temporary = None

    def _describe(self, key: str, hashes: bytes) -> None:
        known = {"shape": self.shape, "blocks": self.blocks, "bad": [*self.bad.items()], "hashes": hashes.hex()}
        text = json.dumps({"key": key, **known}).encode()
        tail = hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + MAGIC
        self._write(np.frombuffer(text + tail, np.uint8), int(np.prod(self.shape)))

    def _write(self, values: np.ndarray, position: int) -> None:
        rest = memoryview(values.reshape(-1).data)
        while rest:
            written = os.pwrite(self.descriptor, rest, position)
            rest, position = rest[written:], position + written

    def _to_memory(self, error: OSError) -> None:
        """Go on without a file, with what has been written to it."""
        log.warning("data.cache: %s cannot be written (%s): this run goes on without", self.path, error.strerror)
        self.pixels = np.zeros(self.shape, np.uint8)
        size = int(np.prod(self.shape[1:]))
        for start, stop, _ in self.blocks:
            content = os.pread(self.descriptor, (stop - start) * size, start * size)
            self.pixels[start:stop] = np.frombuffer(content, np.uint8).reshape(-1, *self.shape[1:])
        self.close()


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*.part"):
        try:
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
        except OSError:  # somebody else was quicker
            continue
