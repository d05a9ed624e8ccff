"""Notices that a run is slow because other programs use the processors, from its first steps or later on."""

import logging
import time

from cnnbench.processes.cores import count_processors, measure_use

log = logging.getLogger("cnnbench")
WINDOW = 100  # steps at least over which time is averaged
SLOWER = 3  # times as long as the first window
BEGINNING = 3.0  # seconds over which the use of the processors is averaged
BUSY = 0.3  # of a core, beyond those that the run leaves free; what a quiet system does takes less


class Pace:
    """Watches the steps of a run; logs a warning, once, for each of two reasons.

    Other programs take cores that the run computes with, in its first seconds; or two windows in a row are much slower
    than the first one.

    Args:
        threads: those on the processors that wait for one another.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._began: tuple[float, float, float] | None = None  # the clock and `measure_use`, until they are judged
        self._watches = threads > 1
        self._last = (0, 0.0)
        self._steps, self._seconds = 0, 0.0
        self._first = 0.0  # seconds a step
        self._slow_windows = 0

    def check(self, steps: int, seconds: float) -> None:
        """Take in the progress of an epoch, a few times an epoch at least; the device has done these steps.

        Args:
            steps, seconds: of the epoch so far. The first call of an epoch is where its time starts.
        """
        if self._watches:  # programs that were there first slow all steps alike, which no comparison of steps shows
            self._watch_others()
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

    def _watch_others(self) -> None:
        """Compare what other programs take of the processors with what the run leaves them."""
        now, use = time.monotonic(), measure_use()
        if use is None:
            self._watches = False
            return
        self._began = self._began or (now, *use)
        began, everyone, own = self._began
        if now - began < BEGINNING:
            return
        self._watches = False
        others, cores = ((use[0] - everyone) - (use[1] - own)) / (now - began), count_processors()
        if others > BUSY + max(0, cores - self.threads):
            log.warning(
                "other programs take %.1f of %d cores, and this run computes with %d threads, which wait for one "
                "another: close those programs, or start the run again with trainer.threads=1 (the last bits of its "
                "results will differ)", others, cores, self.threads,
            )  # fmt: skip

    def _judge_window(self, seconds: float) -> None:
        """Compare the mean time of a step in a window with that of the first window."""
        self._first = self._first or seconds
        self._slow_windows = self._slow_windows + 1 if seconds > SLOWER * self._first else 0
        if self._slow_windows == 2:  # a single one may be a suspended process or a slow disk
            self._slow_windows = 3  # never 2 again
            remedy = ", or start the run again with trainer.threads=1" if self.threads > 1 else ""
            log.warning(
                "a step takes %.1f times as long as in the beginning (%.1f ms instead of %.1f): other programs may be "
                "using the processors. Close them%s", seconds / self._first, 1000 * seconds, 1000 * self._first, remedy,
            )  # fmt: skip
