"""Processes that draw the pictures of a sweep's jobs side by side, while the job waits for nothing else."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnbench.experiment.record import Picture

PICTURES = 3  # of a run; on two cores, too, a process for each: they take turns, and none waits for a long one to end


class Painters:
    """Draws in processes that are forked at once: make it before torch has threads.

    Args:
        count: how many processes.
        end_with: called in each with the number of this process, to see to it that it ends when this one does.
    """

    def __init__(self, count: int, end_with: Callable[[int], None]) -> None:
        fork = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(count, fork, initializer=end_with, initargs=(os.getpid(),))
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
