"""Supervises the jobs of a sweep: whatever happens to one, its state is recorded and the next one starts."""

import time
from collections.abc import Callable, Sequence

from cnnbench.processes.worker import Worker, WorkerEnded
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.storage.atomic import InUse
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.job_process import UNREADABLE, JobOrder, JobOutcome
from cnnbench.sweep.jobs import SweepJob
from cnnbench.sweep.server import JobServer

LOOKS = 0.2  # seconds between two checks of a job's time limit and of a stop request
DUMPS = 0.5  # seconds for a hanging job to log where it hangs
GRACE = 30.0  # seconds for an interrupted job to save itself


class Supervisor:
    """Runs jobs one after the other in a process that is replaced whenever one of them breaks it.

    Args:
        tick: called several times a second while a job runs.
        stops: whether the sweep is to stop; asked as often.
        argv: the command that the runs record as theirs.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        server: JobServer,
        *,
        argv: Sequence[str],
        tick: Callable[[], None] = lambda: None,
        stops: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sweep, self.server, self.argv, self.tick, self.stops = sweep, server, argv, tick, stops
        self._worker: Worker | None = None

    def run(self, job: SweepJob) -> str:
        """Run a job, and return its final state: running, if another process is using its folder.

        Raises:
            BaseException: what `tick` raised or a signal; the job has been interrupted and has saved itself.
        """
        if self.stops():
            return INTERRUPTED
        try:
            resume = self.sweep.prepare(job)
        except InUse:
            return RUNNING
        try:
            outcome = self._do(job, JobOrder(self.sweep.path / job.name, job.config, job.overrides, resume))
        except WorkerEnded as ended:
            self.tick()  # the whole sweep may have been stopped
            outcome = JobOutcome(FAILED, str(ended))
        if outcome.state == UNREADABLE:  # start it again in a new folder
            self.sweep.set_aside(job)
            return self.run(job)
        return self._settle(job, outcome)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _do(self, job: SweepJob, order: JobOrder) -> JobOutcome:
        worker = self._worker = self._worker or self.server.start_job_process(self.argv)
        worker.send(order)
        try:
            return self._watch(worker, job.config["trainer"]["timeout_minutes"])
        except WorkerEnded:
            raise
        except BaseException:
            self._settle(job, self._interrupt(worker))
            raise

    def _watch(self, worker: Worker, minutes: float | None) -> JobOutcome:
        ends = time.monotonic() + 60 * minutes + DUMPS if minutes else None
        while (outcome := worker.receive(LOOKS)) is None:
            self.tick()
            if self.stops():
                return self._interrupt(worker)
            if ends is not None and time.monotonic() > ends:
                return JobOutcome(FAILED, f"it was not done after trainer.timeout_minutes={minutes:g}")
        return outcome

    def _interrupt(self, worker: Worker) -> JobOutcome:
        """Ask the job to save itself and to end."""
        worker.interrupt()
        try:
            outcome = worker.receive(GRACE)
        except WorkerEnded as ended:
            outcome = JobOutcome(INTERRUPTED, str(ended))
        except BaseException:  # a second request ends it at once
            self.close()
            raise
        if outcome is None:
            return JobOutcome(INTERRUPTED, f"killed: it did not save itself within {GRACE:.0f} s")
        return outcome if outcome.state == FINISHED else JobOutcome(INTERRUPTED, outcome.message)

    def _settle(self, job: SweepJob, outcome: JobOutcome) -> str:
        if outcome.state == RUNNING:
            return RUNNING
        if outcome.state != FINISHED:
            self.close()  # the next job gets a fresh process
        return self.sweep.record_end(job, outcome.state, outcome.message)
