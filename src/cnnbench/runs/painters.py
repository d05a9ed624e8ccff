"""Processes that draw the pictures of a run while its own process trains."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from cnnbench.processes.cores import count_cores
from cnnbench.processes.pool import Pool
from cnnbench.processes.worker import CAN_FORK, WorkerEnded
from cnnbench.runs.pictures import Draw, Picture, draw_in_turn


class Painters:
    """Draws pictures in processes that are forked on creation, which must be before torch has started threads.

    Raises:
        OSError: the system cannot start more processes.
    """

    def __init__(self, count: int) -> None:
        # The processes import matplotlib while this one continues.
        prepare = partial(importlib.import_module, "cnnbench.runs.figures")
        self._pool: Pool[Picture, Exception | None] | None = Pool(_draw, count, prepare=prepare)
        self._begun: tuple[Sequence[Picture], Iterator[Exception | None]] = (), iter(())
        self._errors: list[Exception] = []

    def draw(self, pictures: Sequence[Picture], *, wait: bool = True) -> None:
        """Draw the pictures; with `wait`, return when they are drawn.

        Raises:
            Exception: with `wait`, the error of the first picture that failed, including pictures of earlier calls.
        """
        self._finish()
        self._begun = pictures, self._pool.map(pictures) if self._pool else iter(())
        if not wait:
            return
        self._finish()
        if self._errors:
            raise self._errors.pop(0)

    def _finish(self) -> None:
        """Wait for the pictures that were begun, or draw them in this process if there is no pool."""
        (pictures, results), self._begun = self._begun, ((), iter(()))
        if self._pool is not None:
            try:
                self._errors += [error for error in results if error is not None]
                return
            except WorkerEnded:  # perhaps out of memory
                self.close()
        self._errors += [error for error in map(_draw, pictures) if error is not None]

    def close(self) -> None:
        """Finish the pictures that were begun, and end the processes; later pictures are drawn in this process."""
        try:
            self._finish()  # a process that is killed while it writes a picture leaves an incomplete file
        finally:
            if self._pool is not None:
                self._pool.close()
                self._pool = None


@contextmanager
def open_painters(count: int) -> Iterator[Draw]:
    """Provide a function that draws pictures: in other processes if they can be forked and have cores.

    Enter this context before torch is imported, so that the processes stay small.
    """
    painters = None
    if CAN_FORK and count_cores() > 1:
        with suppress(OSError):  # if no process can be started, this one draws
            painters = Painters(count)
    try:
        yield painters.draw if painters else draw_in_turn
    finally:
        if painters:
            painters.close()


def _draw(picture: Picture) -> Exception | None:
    try:
        picture()
    except Exception as error:
        return error
    return None
