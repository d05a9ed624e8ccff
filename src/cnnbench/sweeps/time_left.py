"""An estimate of the time that a sweep still takes, from the work of its jobs and their speed so far."""

import time
from collections.abc import Iterable, Mapping

from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import SweepJob


class RestEstimate:
    """Measures the seconds per multiply-accumulate so far, and applies them to the remaining work.

    Args:
        macs: the multiply-accumulates of all epochs of each job, by its name; without them, jobs count alike.
        at_once: the number of jobs that are expected to run side by side.
    """

    def __init__(self, sweep: SweepFolder, jobs: Iterable[SweepJob], macs: Mapping[str, int], at_once: int) -> None:
        self.sweep, self.macs, self.at_once = sweep, macs, at_once
        # An earlier command may have trained some of the epochs.
        self._shares_before = {job.name: self._measure_share(job) for job in jobs}
        self._macs_done = self._seconds = 0.0
        self._most_running = 0

    def add_finished(self, job: SweepJob, seconds: float) -> None:
        """Take the speed of a finished job into account."""
        self._macs_done += (1 - self._shares_before[job.name]) * self._count_macs(job)
        self._seconds += seconds

    def estimate(self, waiting: Iterable[SweepJob], running: Mapping[str, float]) -> float | None:
        """The seconds until the last job ends; None before any job has finished an epoch.

        Args:
            waiting: all jobs that have not ended.
            running: when each running job began, by its name.
        """
        now = time.monotonic()
        self._most_running = max(self._most_running, len(running))
        shares = {job.name: self._measure_share(job) for job in waiting if job.name in running}
        macs_done, spent = self._macs_done, self._seconds
        for job in waiting:
            if (new := shares.get(job.name, 0) - self._shares_before[job.name]) > 0:
                macs_done += new * self._count_macs(job)
                spent += now - running[job.name]
        if not macs_done:
            return None
        left = []
        for job in waiting:
            before = self._shares_before[job.name]
            seconds = spent / macs_done * self._count_macs(job)
            rest = seconds * (1 - before)
            if job.name in running:
                # The elapsed time counts, within the limits of what the last recorded epoch allows.
                an_epoch = 1 / job.config["trainer"]["epochs"]
                least, most = (
                    seconds * max(0.0, 1 - share) for share in (shares[job.name] + an_epoch, shares[job.name])
                )
                rest = min(most, max(least, rest - (now - running[job.name])))
            left.append(rest)
        # Memory may allow fewer jobs than planned; once one has ended, the number that ran is known.
        at_once = min(self._most_running, self.at_once) if self._seconds else self.at_once
        return max(sum(left) / max(at_once, 1), *left, 0.0)

    def _count_macs(self, job: SweepJob) -> int:
        return max(1, self.macs.get(job.name, 1))

    def _measure_share(self, job: SweepJob) -> float:
        """The share of its epochs that a job has recorded."""
        return min(1.0, self.sweep.count_epochs(job) / job.config["trainer"]["epochs"])
