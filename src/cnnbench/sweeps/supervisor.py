"""Supervises the jobs of a sweep: whatever happens to one, its state is recorded and the other jobs continue.

Jobs start in order, each as soon as there is room for it beside the running ones (`Capacity`). A job that only has to
draw its pictures leaves its cores to the next one. Each job has a process to itself, which then takes another job, and
is replaced if a job crashes it. A job uses the same number of threads beside others as alone, so its result is the
same to the bit.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnbench.processes import signals
from cnnbench.processes.capacity import Capacity, Load, Need
from cnnbench.processes.worker import Worker, WorkerEnded, wait_for_any
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.storage.atomic import InUse
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.job_process import UNREADABLE, JobIsDrawing, JobOrder, JobOutcome
from cnnbench.sweeps.jobs import SweepJob
from cnnbench.sweeps.server import JobServer

log = logging.getLogger("cnnbench")
LOOKS = 0.2  # seconds between two checks of time limits and stop requests
MEMORY_LOOKS = 1.0  # seconds between two checks of memory, for which the kernel walks through all pages of a process
DUMPS = 0.5  # seconds that a hanging job has to log where it hangs
GRACE = 30.0  # seconds that interrupted jobs have to save their state


@dataclass
class _Running:
    """A job in its process.

    Attributes:
        load: the cores and memory that it uses.
        epochs: the number of epochs in its folder when it started.
        ends: the time at which its time limit is over.
    """

    job: SweepJob
    load: Load
    epochs: int
    ends: float | None


KILLED = JobOutcome(INTERRUPTED, f"killed: it did not save its state within {GRACE:.0f} s")


def find_deadline(job: SweepJob) -> float | None:
    """The monotonic time at which the time limit of a job that starts now is over; None without a limit."""
    minutes = job.config["trainer"]["timeout_minutes"]
    return time.monotonic() + 60 * minutes + DUMPS if minutes else None


def describe_timeout(job: SweepJob) -> JobOutcome:
    """The outcome of a job that has reached its time limit."""
    return JobOutcome(
        FAILED, f"it was not finished after trainer.timeout_minutes={job.config['trainer']['timeout_minutes']:g}"
    )


def describe_interrupt(outcome: JobOutcome) -> JobOutcome:
    """The outcome of an interrupted job, which may have finished just before."""
    return outcome if outcome.state == FINISHED else JobOutcome(INTERRUPTED, outcome.message)


class Supervisor:
    """Runs jobs in processes that are replaced if a job crashes them.

    Args:
        tick: called several times a second while jobs run.
        stops: tells whether the sweep must stop; called as often.
        argv: the command that the runs record.
        capacity: decides how many jobs run at once; by default one.
        needs: the cores and memory that each job needs, by its name.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        server: JobServer,
        *,
        argv: Sequence[str],
        tick: Callable[[], None] = lambda: None,
        stops: Callable[[], bool] = lambda: False,
        capacity: Capacity | None = None,
        needs: Mapping[str, Need] | None = None,
    ) -> None:
        self.sweep, self.server, self.argv, self.tick, self.stops = sweep, server, argv, tick, stops
        self.capacity, self.needs = capacity or Capacity(1), needs or {}
        self._running: dict[Worker, _Running] = {}
        self._idle: list[Worker] = []
        self._waiting: deque[SweepJob] = deque()
        self._alone: deque[SweepJob] = deque()  # jobs that ran out of memory beside others
        self._states: dict[str, str] = {}
        self._memory_seen = 0.0

    def run(self, job: SweepJob) -> str:
        """Run one job and return its final state, as `run_all` does."""
        return self.run_all([job])[job.name]

    def run_all(self, jobs: Sequence[SweepJob]) -> dict[str, str]:
        """Run jobs; return the final state of each by its name: running if another process uses its folder.

        Raises:
            BaseException: raised by `tick` or a signal; running jobs have been interrupted and have saved their state.
        """
        self._waiting, self._alone, self._states = deque(jobs), deque(), {}
        try:
            while not self.stops() and self._start_jobs():
                self._watch()
            self._interrupt()
        except BaseException:
            self._interrupt()
            raise
        return {job.name: self._states.get(job.name, INTERRUPTED) for job in jobs}

    def add(self, jobs: Iterable[SweepJob]) -> None:
        """Let more jobs follow those that `run_all` has still to start; `tick` may call this."""
        self._waiting.extend(jobs)

    def list_failed(self) -> set[str]:
        """The names of the jobs that this call of `run_all` cannot finish: failed, or used by another process."""
        return {name for name, state in self._states.items() if state in (FAILED, RUNNING)}

    def close(self) -> None:
        """End the processes."""
        for worker in [*self._running, *self._idle]:
            worker.close()
        self._running, self._idle = {}, []

    def _start_jobs(self) -> bool:
        """Start jobs while there is room for the next one; return whether any is running."""
        while self._waiting and self._has_room(self._waiting[0]):
            self._start(self._waiting.popleft())
        if self._alone and not self._running and not self._waiting:
            self._start(self._alone.popleft())
            return bool(self._running) or self._start_jobs()
        return bool(self._running)

    def _has_room(self, job: SweepJob) -> bool:
        return self.capacity.admits(self._find_need(job), self._list_loads())

    def _list_loads(self) -> list[Load]:
        return [running.load for running in self._running.values()]

    def _find_need(self, job: SweepJob) -> Need:
        return self.needs.get(job.name, Need())

    def _start(self, job: SweepJob) -> None:
        try:
            resume = self.sweep.prepare(job)
        except InUse:
            self._states[job.name] = RUNNING
            return
        try:
            worker = self._find_worker()
        except WorkerEnded as ended:
            self._record(job, JobOutcome(FAILED, str(ended)))
            return
        folder = self.sweep.path / job.name
        load = Load(worker.process.pid or 0, self._find_need(job))
        started = _Running(job, load, self.sweep.count_epochs(job), find_deadline(job))
        worker.send(JobOrder(folder, job.config, job.overrides, resume))
        self._running[worker] = started
        self.capacity.note_company(self._list_loads())

    def _find_worker(self) -> Worker:
        """A process that has no job.

        Raises:
            WorkerEnded: no process can be started.
        """
        while self._idle:
            worker = self._idle.pop()
            if not worker.connection.poll():  # a process that has ended would have something to read
                return worker
            worker.close()
        return self.server.start_job_process(self.argv)

    def _watch(self) -> None:
        """Wait a moment for a job to end, then check the memory and time limits of those still running."""
        for worker in wait_for_any(self._running, LOOKS):
            with signals.hold():  # a message that is read but not settled would be waited for again
                self._hear(worker)
        sees_memory = time.monotonic() - self._memory_seen > MEMORY_LOOKS
        if sees_memory:
            self._memory_seen = time.monotonic()
        for worker, running in list(self._running.items()):
            load = running.load
            if not load.has_peaked:
                load.has_peaked = self.sweep.count_epochs(running.job) > running.epochs
                sees_memory |= load.has_peaked  # waiting jobs may fit now
            if sees_memory:
                self.capacity.observe(load)
            if running.ends is not None and time.monotonic() > running.ends:
                self._settle(worker, describe_timeout(running.job))
        self.tick()

    def _hear(self, worker: Worker) -> None:
        running = self._running[worker]
        try:
            outcome = worker.receive()
            self.capacity.observe(running.load)
            if isinstance(outcome, JobIsDrawing):
                running.load.is_computing = False
                return
            self.capacity.learn(running.load)
            ran_out = outcome.ran_out_of_memory
        except WorkerEnded as ended:
            self.tick()  # the whole sweep may have been stopped
            outcome = JobOutcome(FAILED, str(ended))
            ran_out = running.load.was_killed_for_memory(ended.code)
        if outcome.state == UNREADABLE:
            self._idle.append(worker)
            del self._running[worker]
            self.sweep.set_aside(running.job)
            self._start(running.job)  # again, in a new folder
        elif ran_out and running.load.has_company:
            self._alone.append(running.job)
            message = f"{outcome.message}; it continues alone when the other jobs have ended"
            log.warning("job %s: %s", running.job.name, message)
            self._settle(worker, JobOutcome(INTERRUPTED, message))
        else:
            self._settle(worker, outcome)

    def _interrupt(self) -> None:
        """Let the running jobs save their state, and end them."""
        for worker in self._running:
            worker.interrupt()
        deadline = time.monotonic() + GRACE
        try:
            while self._running and (left := deadline - time.monotonic()) > 0:
                for worker in wait_for_any(self._running, left):
                    try:
                        outcome = worker.receive()
                        if isinstance(outcome, JobIsDrawing):
                            continue
                    except WorkerEnded as ended:
                        outcome = JobOutcome(INTERRUPTED, str(ended))
                    self._settle(worker, describe_interrupt(outcome))
            for worker in list(self._running):
                self._settle(worker, KILLED)
        except BaseException:  # a second signal ends them at once
            self.close()
            raise

    def _settle(self, worker: Worker, outcome: JobOutcome) -> None:
        """Record how a job ended; keep its process only if the job did not fail."""
        job = self._running.pop(worker).job
        if outcome.state in (FINISHED, RUNNING):
            self._idle.append(worker)
        else:
            worker.close()
        self._record(job, outcome)

    def _record(self, job: SweepJob, outcome: JobOutcome) -> None:
        if outcome.state != RUNNING:
            outcome = JobOutcome(self.sweep.record_end(job, outcome.state, outcome.message))
        self._states[job.name] = outcome.state
