"""Image files decoded ahead of whoever needs them: by processes, in the order asked for, and never many at once."""

import math
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from cnnbench.data.files.images import BadImage, Decoding, decode_image
from cnnbench.processes.cores import cores
from cnnbench.processes.pool import in_processes, stopping

FEW_FILES = 16
CHUNK_FILES = 128  # handed over together at most: a message costs as much as decoding some small images
CHUNK_SECONDS = 0.02  # of decoding; large photographs go one by one
CHUNKS_AHEAD = 16  # of each process: enough to go on with while a batch is in the network
BYTES_AHEAD = 2**26  # of all of them together


class Chunk(NamedTuple):
    """What came of some files: the good ones' images, uint8 (N, C, H, W), and by their place why the others failed."""

    images: np.ndarray
    bad: dict[int, BadImage]
    seconds: float

    def in_order(self) -> Iterator[np.ndarray | BadImage]:
        """One by one, as the files were given."""
        good = iter(self.images)
        for place in range(len(self.images) + len(self.bad)):
            yield self.bad[place] if place in self.bad else next(good)


def decode_all(
    files: Iterable[str], how: Decoding, *, workers: int | None = None
) -> Generator[np.ndarray | BadImage, None, None]:
    """Each file's pixels as `decode_image` gives them, or why there are none.

    A few files are decoded right here. For more, as many processes as the machine has cores are forked: Pillow holds
    Python's lock for most of the time that a small image takes, so threads would not help. They end with the
    iterator: close it where it is not read to its end.

    Args:
        files: may be endless; it is read some thousands ahead.
        workers: processes; None is one a core, 0 decodes here.

    Raises:
        RuntimeError: a process died.
    """
    files = iter(files)
    first = list(islice(files, FEW_FILES))
    workers = cores() if workers is None else workers
    if len(first) < FEW_FILES or workers == 0:
        for file in chain(first, files):
            yield _decoded(file, how)
    else:
        yield from _in_chunks(chain(first, files), how, workers)


def _in_chunks(files: Iterator[str], how: Decoding, workers: int) -> Iterator[np.ndarray | BadImage]:
    bytes_each = math.prod(how.shape)
    largest = max(1, min(CHUNK_FILES, BYTES_AHEAD // (CHUNKS_AHEAD * workers * bytes_each)))
    size = min(FEW_FILES // workers + 1, largest)
    jobs = iter(lambda: list(islice(files, size)), [])
    with closing(in_processes(partial(_decode_chunk, how), jobs, workers, ahead=CHUNKS_AHEAD)) as chunks:
        for chunk in chunks:
            each = chunk.seconds / (len(chunk.images) + len(chunk.bad))
            size = max(1, min(largest, int(CHUNK_SECONDS / each)))
            yield from chunk.in_order()


def _decode_chunk(how: Decoding, files: list[str]) -> Chunk:
    started = time.perf_counter()
    # Told to stop, a worker hands over what it has: nobody will look at it.
    found = [_decoded(file, how) for file in files if not stopping()]
    images = [each for each in found if isinstance(each, np.ndarray)]
    # One array, for each has to be wrapped up and unwrapped on its way.
    together = np.stack(images) if images else np.empty((0, *how.shape), np.uint8)
    bad = {place: each for place, each in enumerate(found) if isinstance(each, BadImage)}
    return Chunk(together, bad, time.perf_counter() - started)


def _decoded(file: str, how: Decoding) -> np.ndarray | BadImage:
    try:
        return decode_image(file, how)
    except BadImage as bad:
        return bad
