"""Notices when the steps of a run become much slower than they were, because something else uses the processors."""

import logging

import torch

log = logging.getLogger("cnnbench")
WINDOW = 100  # steps at least over which time is averaged
SLOWER = 3  # times as long as the first window


class Pace:
    """The time of a run's steps; logs a warning, once, if two windows in a row are much slower than the first one.

    One slow window may be a suspended process or a slow disk.
    """

    def __init__(self) -> None:
        self._last = (0, 0.0)
        self._steps, self._seconds = 0, 0.0
        self._first = 0.0  # seconds a step
        self._slow_windows = 0

    def check(self, steps: int, seconds: float) -> None:
        """Take in the progress of an epoch, a few times an epoch at least; the device has done these steps.

        Args:
            steps, seconds: of the epoch so far. The first call of an epoch is where its time starts.
        """
        steps_before, seconds_before = self._last
        self._last = steps, seconds
        if steps <= steps_before:  # a new epoch
            return
        if steps_before:  # the first step of a run is slow, because libraries and memory are set up
            self._steps += steps - steps_before
            self._seconds += seconds - seconds_before
        if self._steps >= WINDOW:
            self._judge_window(self._seconds / self._steps)
            self._steps, self._seconds = 0, 0.0

    def _judge_window(self, seconds: float) -> None:
        """Compare the mean time of a step in a window with that of the first window."""
        self._first = self._first or seconds
        self._slow_windows = self._slow_windows + 1 if seconds > SLOWER * self._first else 0
        if self._slow_windows == 2:
            self._slow_windows = 3  # never 2 again
            remedy = ", or start the run again with trainer.threads=1" if torch.get_num_threads() > 1 else ""
            log.warning(
                "a step takes %.1f times as long as in the beginning (%.1f ms instead of %.1f): other programs may be "
                "using the processors. Close them%s", seconds / self._first, 1000 * seconds, 1000 * self._first, remedy,
            )  # fmt: skip
