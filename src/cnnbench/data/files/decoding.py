"""Decode many image files in worker processes: in order, ahead of their use, in bounded memory, and without torch."""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage, decode_bytes, probe, read_file
from cnnbench.data.hashing import compute_short_hash
from cnnbench.processes.cores import count_cores
from cnnbench.processes.pool import map_in_processes
from cnnbench.storage.text import format_path

FEW_FILES = 16  # fewer are not worth a process
CHUNK_FILES = 128  # at most in a message, which costs as much as decoding some small images
CHUNK_SECONDS = 0.02  # of decoding; large photographs go one by one
CHUNKS_AHEAD = 16  # in each process: enough to decode while a batch is in the network
BYTES_AHEAD = 2**26  # in all processes together


class Chunk(NamedTuple):
    """Some decoded files."""

    images: np.ndarray  # uint8 (N, C, H, W), zeros for a bad file; empty if the decoder drops them
    bad: dict[int, BadImage]  # why a file cannot be used, by its place
    hashes: bytes  # of each file the short hashes of content and pixels, if the decoder hashes
    files: int
    seconds: float


@dataclass(frozen=True)
class Decoder:
    """What each process does with its files."""

    how: Decoding
    resizes: bool = True  # if not, an image of another size than `how.image_size` is bad (`OtherSize`)
    hashes: bool = False
    drops: bool = False  # return no images, only errors and hashes

    def __call__(self, files: Sequence[str]) -> Chunk:
        """Decode some files."""
        started = time.perf_counter()
        images = np.zeros((len(files), *self.how.shape), np.uint8)
        bad: dict[int, BadImage] = {}
        hashes = [bytes(16)] * len(files)
        for place, file in enumerate(files):
            try:
                content = read_file(file)
                images[place] = decode_bytes(content, self.how, file, resizes=self.resizes)
            except BadImage as error:
                bad[place] = error
                continue
            if self.hashes:
                hashes[place] = compute_short_hash(content) + compute_short_hash(images[place].data)
        images = images[:0] if self.drops else images
        return Chunk(images, bad, b"".join(hashes), len(files), time.perf_counter() - started)


def decode_chunks(files: Iterable[str], decoder: Decoder, workers: int | None = None) -> Generator[Chunk, None, None]:
    """Decode files in their order, some at a time; a few are decoded in this process.

    The processes end with the iterator: close it unless you read it to its end.

    Args:
        files: may be endless; they are read some thousands ahead.
        workers: processes; None is one per core, 0 decodes in this one.

    Raises:
        RuntimeError: a process died.
    """
    # Not threads: Pillow holds Python's lock for most of the time that a small image takes.
    files = iter(files)
    first = list(islice(files, FEW_FILES))
    workers = 0 if len(first) < FEW_FILES else count_cores() if workers is None else workers
    together = max(1, workers)
    largest = max(1, min(CHUNK_FILES, BYTES_AHEAD // (CHUNKS_AHEAD * together * math.prod(decoder.how.shape))))
    # Small chunks at first, because the files may be thumbnails or photographs. The lambda reads `size` for each chunk.
    size = min(FEW_FILES // together + 1, largest)
    files = chain(first, files)
    with closing(
        map_in_processes(decoder, iter(lambda: list(islice(files, size)), []), workers, ahead=CHUNKS_AHEAD)
    ) as done:
        for chunk in done:
            size = max(1, min(largest, int(CHUNK_SECONDS * chunk.files / chunk.seconds)))
            yield chunk


def decode_all(
    files: Iterable[str], how: Decoding, *, workers: int | None = None
) -> Generator[np.ndarray | BadImage, None, None]:
    """The pixels of each file as `decode_image` returns them, or its error; see `decode_chunks`."""
    with closing(decode_chunks(files, Decoder(how), workers)) as chunks:
        for chunk in chunks:
            for place, image in enumerate(chunk.images):
                yield chunk.bad.get(place, image)


def probe_some(paths: Sequence[str], most: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Name, channels, width and height of up to `most` evenly spread files; else of the first that can be read."""
    spread = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int).tolist()
    return list(_probe_readable(paths, spread)) or list(islice(_probe_readable(paths, range(len(paths))), 1))


def _probe_readable(paths: Sequence[str], rows: Iterable[int]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for row in rows:
        try:
            yield format_path(paths[row]), probe(paths[row])
        except BadImage:
            continue


class ImageFiles:
    """Images that stay in their files, decoded on access by worker processes; with 0 workers, in this one."""

    def __init__(self, paths: Sequence[str], how: Decoding, workers: int) -> None:
        self.shape = (len(paths), *how.shape)
        self.paths, self.how, self.workers = paths, how, workers

    def stream(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The images in the rows of each part, uint8 (n, C, H, W).

        Raises:
            ValueError: a file can no longer be read.
        """
        files = (self.paths[row] for part in parts for row in part.tolist())
        with closing(decode_all(files, self.how, workers=self.workers)) as images:
            for part in parts:
                together = np.empty((len(part), *self.how.shape), np.uint8)
                for place, image in zip(range(len(part)), images, strict=False):
                    if isinstance(image, BadImage):
                        raise ValueError(f"{image} (it could be read before: has it changed?)")
                    together[place] = image
                yield together
