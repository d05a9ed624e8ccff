"""Image files decoded ahead of whoever needs them: by processes, in the order asked for, and never many at once."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import numpy as np

from cnnbench.data.images import BadImage, Decoding, decode_image

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
    """
    files = iter(files)
    first = list(islice(files, FEW_FILES))
    workers = _cores() if workers is None else workers
    if len(first) < FEW_FILES or workers == 0:
        for file in chain(first, files):
            yield _decoded(file, how)
    else:
        yield from _in_processes(chain(first, files), how, workers)


def _in_processes(files: Iterator[str], how: Decoding, workers: int) -> Iterator[np.ndarray | BadImage]:
    # Forked where that is safe enough for torch's own loader: a spawned process would import torch for two seconds.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    stop = context.RawValue("b", False)
    bytes_each = how.channels * how.image_size**2
    largest = max(1, min(CHUNK_FILES, BYTES_AHEAD // (CHUNKS_AHEAD * workers * bytes_each)))
    size = min(FEW_FILES // workers + 1, largest)
    ahead: deque[Future[Chunk]] = deque()
    with ProcessPoolExecutor(workers, context, _begin, (stop,)) as pool:
        try:
            with _signals_held():
                pool.submit(int)
            while some := list(islice(files, size)):
                ahead.append(pool.submit(_decode_chunk, some, how))
                if len(ahead) > CHUNKS_AHEAD * workers:
                    chunk = ahead.popleft().result()
                    each = chunk.seconds / (len(chunk.images) + len(chunk.bad))
                    size = max(1, min(largest, int(CHUNK_SECONDS / each)))
                    yield from chunk.in_order()
            while ahead:
                yield from ahead.popleft().result().in_order()
        finally:
            stop.value = True
            pool.shutdown(cancel_futures=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: while workers are forked Python would lose them, and a worker is not ready for them."""
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        yield


_stop: Any = None


def _begin(stop: Any) -> None:
    """Make a worker end when it is told to or its parent is gone, and leave signals to all of them to the parent."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One that dies with a queue's lock in its hand would leave the others, and the parent, waiting for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _decode_chunk(files: list[str], how: Decoding) -> Chunk:
    started = time.perf_counter()
    # Told to stop, a worker hands over what it has: nobody will look at it.
    found = [_decoded(file, how) for file in files if not _stop.value]
    images = [each for each in found if isinstance(each, np.ndarray)]
    # One array, for each has to be wrapped up and unwrapped on its way.
    together = np.stack(images) if images else np.empty((0, how.channels, how.image_size, how.image_size), np.uint8)
    bad = {place: each for place, each in enumerate(found) if isinstance(each, BadImage)}
    return Chunk(together, bad, time.perf_counter() - started)


def _decoded(file: str, how: Decoding) -> np.ndarray | BadImage:
    try:
        return decode_image(file, how)
    except BadImage as bad:
        return bad


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
