"""Supervises the jobs of a sweep: whatever happens to one, its state is recorded and the other jobs continue.

Jobs start in order, each as soon as there is room for it beside the running ones (`Capacity`). A job that only has to
draw its pictures leaves its cores to the next one. Each job has a process to itself, which then takes another job, and
is replaced if a job crashes it. A job uses the same number of threads beside others as alone, so its result is the
same to the bit. Jobs that are trained together (`sweep.together`) share a process, and run beside no other job.
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
from cnnbench.sweeps.together import plan_groups

log = logging.getLogger("cnnbench")
LOOKS = 0.2  # seconds between two checks of time limits and stop requests
MEMORY_LOOKS = 1.0  # seconds between two checks of memory, for which the kernel walks through all pages of a process
DUMPS = 0.5  # seconds that a hanging job has to log where it hangs
GRACE = 30.0  # seconds that interrupted jobs have to save their state


@dataclass
class _Running:
    """Jobs in a process: one, or several that are trained together.

    Attributes:
        load: the cores and memory that they use.
        epochs: the number of epochs in the first one's folder when they started.
        ends: the time at which their time limit is over.
    """

    jobs: Sequence[SweepJob]
    load: Load
    epochs: int
    ends: float | None


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
        self._waiting: deque[Sequence[SweepJob]] = deque()
        self._alone: deque[Sequence[SweepJob]] = deque()  # jobs that ran out of memory beside others
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
        self._waiting, self._alone, self._states = deque(plan_groups(jobs)), deque(), {}
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
        self._waiting.extend([job] for job in jobs)

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

    def _has_room(self, jobs: Sequence[SweepJob]) -> bool:
        if len(jobs) > 1 or any(len(running.jobs) > 1 for running in self._running.values()):
            return not self._running  # the memory of a group cannot be estimated from that of single jobs
        return self.capacity.admits(self._find_need(jobs[0]), self._list_loads())

    def _list_loads(self) -> list[Load]:
        return [running.load for running in self._running.values()]

    def _find_need(self, job: SweepJob) -> Need:
        return self.needs.get(job.name, Need())

    def _start(self, jobs: Sequence[SweepJob]) -> None:
        orders = {}
        for job in jobs:
            try:
                resume = self.sweep.prepare(job)
            except InUse:
                self._states[job.name] = RUNNING
            else:
                orders[job.name] = JobOrder(self.sweep.path / job.name, job.config, job.overrides, resume)
        jobs = [job for job in jobs if job.name in orders]
        if not jobs:
            return
        try:
            worker = self._find_worker()
        except WorkerEnded as ended:
            self._record(jobs, [JobOutcome(FAILED, str(ended))] * len(jobs))
            return
        load = Load(worker.process.pid or 0, self._find_need(jobs[0]))
        minutes = _get_minutes(jobs[0])
        ends = time.monotonic() + 60 * minutes + DUMPS if minutes else None
        started = _Running(jobs, load, self.sweep.count_epochs(jobs[0]), ends)
        worker.send([*orders.values()])
        self._running[worker] = started
        self.capacity.note_company(self._list_loads())

    def _find_worker(self) -> Worker:
        """A process that has no job.

        Raises:
            WorkerEnded: no process can be started.
        """
        while self._idle:
            worker = self._idle.pop()
            if not worker.connection.poll():  # of a process that has ended, the end can be read
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
                load.has_peaked = self.sweep.count_epochs(running.jobs[0]) > running.epochs
                sees_memory |= load.has_peaked  # waiting jobs may fit now
            if sees_memory:
                self._observe(running)
            if running.ends is not None and time.monotonic() > running.ends:
                message = f"it was not finished after trainer.timeout_minutes={_get_minutes(running.jobs[0]):g}"
                self._settle(worker, [JobOutcome(FAILED, message)] * len(running.jobs))
        self.tick()

    def _hear(self, worker: Worker) -> None:
        running = self._running[worker]
        try:
            outcomes = worker.receive()
            self._observe(running)
            if isinstance(outcomes, JobIsDrawing):
                running.load.is_computing = False
                return
            if len(running.jobs) == 1:
                self.capacity.learn(running.load)
        except WorkerEnded as ended:
            self.tick()  # the whole sweep may have been stopped
            ran_out = running.load.was_killed_for_memory(ended.code)
            outcomes = [JobOutcome(FAILED, str(ended), ran_out)] * len(running.jobs)
        # Only a single job has company.
        if outcomes[0].ran_out_of_memory and running.load.has_company:
            self._alone.append(running.jobs)
            message = f"{outcomes[0].message}; it continues alone when the other jobs have ended"
            log.warning("job %s: %s", running.jobs[0].name, message)
            outcomes = [JobOutcome(INTERRUPTED, message)]
        self._settle(worker, outcomes)

    def _observe(self, running: _Running) -> None:
        if len(running.jobs) == 1:  # the memory of a group says nothing about a single job
            self.capacity.observe(running.load)

    def _interrupt(self) -> None:
        """Let the running jobs save their state, and end them."""
        for worker in self._running:
            worker.interrupt()
        deadline = time.monotonic() + GRACE
        try:
            while self._running and (left := deadline - time.monotonic()) > 0:
                for worker in wait_for_any(self._running, left):
                    self._hear_interrupted(worker)
            for worker, running in list(self._running.items()):
                killed = JobOutcome(INTERRUPTED, f"killed: it did not save its state within {GRACE:.0f} s")
                self._settle(worker, [killed] * len(running.jobs))
        except BaseException:  # a second signal ends them at once
            self.close()
            raise

    def _hear_interrupted(self, worker: Worker) -> None:
        try:
            outcomes = worker.receive()
            if isinstance(outcomes, JobIsDrawing):
                return
        except WorkerEnded as ended:
            outcomes = [JobOutcome(INTERRUPTED, str(ended))] * len(self._running[worker].jobs)
        # A job may have finished just before.
        self._settle(
            worker,
            [one if one.state == FINISHED else JobOutcome(INTERRUPTED, one.message) for one in outcomes],
        )

    def _settle(self, worker: Worker, outcomes: Sequence[JobOutcome]) -> None:
        """Record how the jobs of a process ended; keep the process only if none of them failed."""
        jobs = self._running.pop(worker).jobs
        if {outcome.state for outcome in outcomes} <= {FINISHED, RUNNING, UNREADABLE}:
            self._idle.append(worker)
        else:
            worker.close()
        self._record(jobs, outcomes)

    def _record(self, jobs: Sequence[SweepJob], outcomes: Sequence[JobOutcome]) -> None:
        again = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome.state == UNREADABLE:
                self.sweep.set_aside(job)
                again.append(job)
            elif outcome.state == RUNNING:
                self._states[job.name] = RUNNING
            else:
                self._states[job.name] = self.sweep.record_end(job, outcome.state, outcome.message)
        if again:
            self._waiting.appendleft(again)  # from the beginning, in new folders


def _get_minutes(job: SweepJob) -> float | None:
    """The time limit of a job."""
    minutes: float | None = job.config["trainer"]["timeout_minutes"]
    return minutes
