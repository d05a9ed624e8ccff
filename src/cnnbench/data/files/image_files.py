"""Image files read by several processes: all of them once, or again and again in the order that training asks for."""

import hashlib
import math
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.files.hashing import short_hash
from cnnbench.data.files.images import MAX_BYTES, BadImage, Decoding, OtherSize, decode_bytes, decode_image, probe
from cnnbench.data.files.pixel_store import Block
from cnnbench.processes.pool import in_processes, stopping
from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import format_path

BLOCK_FILES, BLOCK_BYTES = 256, 2**20  # files handed over together, and how large they may be as files
UNIT_BYTES = 2**22  # of decoded images handed over together
FEW = 32  # images that are not worth a process


class Paths:
    """Many paths in little memory: as one string of bytes they stay shared between processes.

    Args:
        root: the folder they start from.
        paths: as `os.fsdecode` gives them.
    """

    def __init__(self, root: str, paths: Sequence[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self.root = root
        self.content = b"".join(encoded)
        self.ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.content[self.ends[row] : self.ends[row + 1]]))


class WrongSize(ValueError):
    """An image has another size than the others, and nothing says which is wanted."""


@dataclass(frozen=True)
class Reader:
    """Decodes the files of one set.

    Attributes:
        one_size: refuse a file whose own width or height is not `how.image_size`.
        keep: hand the pixels over; without, files are only looked at.
    """

    paths: Paths
    how: Decoding
    one_size: bool = False
    keep: bool = True

    def block(self, rows: tuple[int, int]) -> Block | str:
        """Decode the files from one row up to another; a string says which has another size."""
        start, stop = rows
        pixels = np.zeros((stop - start, *self.how.shape), np.uint8)
        bad: dict[int, str] = {}
        files = [bytes(8)] * len(pixels)
        for row in range(start, stop):
            if stopping():
                break
            path = self.paths[row]
            try:
                content = read_regular(path, MAX_BYTES)
                files[row - start] = short_hash(content)
                pixels[row - start] = decode_bytes(content, self.how, path, as_it_is=self.one_size)
            except OtherSize as error:
                return f"{error.name!r} has {error.reason}, others {self.how.shape[2]} × {self.how.shape[1]}"
            except BadImage as error:
                bad[row] = error.reason
            except Refused as error:
                bad[row] = str(error)
        kept = pixels if self.keep else pixels[:0]
        hashes = b"".join(file + short_hash(image.data) for file, image in zip(files, pixels, strict=True))
        return Block(start, kept, hashlib.sha256(kept.data).hexdigest(), bad, stop - start, hashes)

    def images(self, rows: Sequence[int]) -> np.ndarray | str:
        """The images in some rows, uint8 (n, C, H, W); a string says which cannot be read."""
        pixels = np.empty((len(rows), *self.how.shape), np.uint8)
        for place, row in enumerate(rows):
            if stopping():
                break
            try:
                pixels[place] = decode_image(self.paths[row], self.how)
            except BadImage as error:
                return str(error)
        return pixels


def read_blocks(reader: Reader, sizes: np.ndarray, workers: int) -> Generator[Block, None, None]:
    """Decode every file once.

    Args:
        sizes: int64, (N,), bytes of each file.

    Raises:
        WrongSize: the reader wants one size, and a file has another.
    """
    largest = max(1, min(BLOCK_FILES, UNIT_BYTES // _bytes(reader.how)))
    found = in_processes(reader.block, _blocks(sizes, largest), workers if len(sizes) > FEW else 0)
    try:
        for block in found:
            if isinstance(block, str):
                raise WrongSize(block)
            yield block
    finally:
        found.close()


def _blocks(sizes: np.ndarray, largest: int) -> Iterator[tuple[int, int]]:
    start = total = 0
    for row, size in enumerate(sizes.tolist()):
        if row - start == largest or (row > start and total + size > BLOCK_BYTES):
            yield start, row
            start = row
            total = 0
        total += size
    yield start, len(sizes)


def _bytes(how: Decoding) -> int:
    return math.prod(how.shape)


class ImageFiles:
    """Images that are decoded whenever they are asked for, as `cnnbench.data.dataset.Files` describes it.

    Args:
        workers: processes; 0 decodes here.
    """

    def __init__(self, reader: Reader, workers: int) -> None:
        self.shape: tuple[int, ...] = (len(reader.paths), *reader.how.shape)
        self.reader = reader
        self.workers = workers

    def stream(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images in the rows of each part.

        Raises:
            ValueError: a file cannot be read any more.
        """
        size = max(1, UNIT_BYTES // _bytes(self.reader.how))
        units = (unit.tolist() for part in parts for unit in part.split(size))
        few = sum(map(len, parts)) <= FEW
        found = in_processes(self.reader.images, units, 0 if few else self.workers)
        try:
            for part in parts:
                images = [_tensor(next(found)) for _ in range(-(-len(part) // size))]
                yield images[0] if len(images) == 1 else torch.cat(images)
        finally:
            found.close()


def _tensor(images: np.ndarray | str) -> Tensor:
    if isinstance(images, str):
        raise ValueError(f"{images} (it could be read before: has it changed?)")
    return torch.from_numpy(images)


def probed(paths: Paths, most: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Name, and channels, width and height, of up to `most` files spread evenly; more, until one can be read."""
    spread = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int).tolist()
    found = []
    for row in spread:
        try:
            found.append((format_path(paths[row]), probe(paths[row])))
        except BadImage:
            continue
    for row in range(len(paths)) if not found else ():
        try:
            return [(format_path(paths[row]), probe(paths[row]))]
        except BadImage:
            continue
    return found
