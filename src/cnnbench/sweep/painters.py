"""Processes that draw the pictures of a sweep's jobs side by side, while the job waits for nothing else."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnbench.record import Picture

MOST = 3  # a run has as many pictures


class Painters:
    """Draws in processes that are forked at once: make it before torch has threads.

    Args:
        count: how many processes.
        end_with: called in each with the number of this process, to see to it that it ends when this one does.
    """

    def __init__(self, count: int, end_with: Callable[[int], None]) -> None:
        fork = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(min(count, MOST), fork, initializer=_begin, initargs=(end_with, os.getpid()))
        self._pool.submit(int).result()  # the first starts them all

    def draw(self, pictures: Sequence["Picture"]) -> None:
        """Draw all of them, and wait for the last.

        Raises:
            Exception: whatever the first that failed has raised.
        """
        try:
            drawn = [self._pool.submit(picture) for picture in pictures]
            wait(drawn)
            for future in drawn:
                future.result()
        except BrokenProcessPool:  # for want of memory, perhaps: what is drawn already is drawn again
            for picture in pictures:
                picture()


def _begin(end_with: Callable[[int], None], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
