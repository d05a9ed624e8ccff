"""Processes that draw a job's pictures in parallel."""

from collections.abc import Sequence
from functools import partial

from cnnbench.processes.pool import Pool
from cnnbench.processes.worker import WorkerEnded

PICTURES = 3  # of a run; on two cores, too, a process for each: they take turns, and none waits for a long one to end


class Painters:
    """Draws in processes that are forked at once: make it before torch has threads.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, count: int = PICTURES) -> None:
        self._pool: Pool[partial[None], Exception | None] | None = Pool(_draw, count)

    def draw(self, pictures: Sequence[partial[None]]) -> None:
        """Draw all of them, and wait for the last.

        Raises:
            Exception: that of the first picture that failed.
        """
        if self._pool is not None:
            try:
                errors = [error for error in self._pool.map(pictures) if error is not None]
            except WorkerEnded:  # perhaps out of memory
                self.close()
        if self._pool is None:
            errors = [error for error in map(_draw, pictures) if error is not None]
        if errors:
            raise errors[0]

    def close(self) -> None:
        """End the processes; from then on, pictures are drawn in this one."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _draw(picture: partial[None]) -> Exception | None:
    try:
        picture()
    except Exception as error:
        return error
    return None
