"""Watches over the jobs of a sweep: whatever happens to one, it has a state, and the next one starts."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.storage.atomic import InUse
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.job_processes import JobProcess, Server
from cnnbench.sweep.jobs import Job
from cnnbench.sweep.server import DUMP, UNREADABLE

LOOKS = 0.2  # seconds between two looks at a job's time and at whether the sweep is to stop
DUMPS = 0.5  # seconds for a hanging job to write down where it hangs
GRACE = 30.0  # seconds for an interrupted job to save itself


class Supervisor:
    """Runs jobs one after the other in a process that is replaced whenever one of them breaks it.

    Args:
        tick: called a few times a second while a job runs.
        stops: whether the sweep is to stop; asked as often.
        argv: the command that the runs record as theirs.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        server: Server,
        *,
        argv: Sequence[str],
        tick: Callable[[], None] = lambda: None,
        stops: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sweep, self.server, self.argv, self.tick, self.stops = sweep, server, argv, tick, stops
        self._process: JobProcess | None = None

    def run(self, job: Job) -> str:
        """Do a job, and return the state that it ended in: running, if another process has its folder.

        Raises:
            BaseException: what `tick` raised or a signal; the job has been interrupted and has saved itself.
        """
        if self.stops():
            return INTERRUPTED
        try:
            resume = self.sweep.prepare(job)
        except InUse:
            return RUNNING
        process = self._process = self._process or self.server.job_process(self.argv)
        folder = self.sweep.path / job.name
        asked = {"folder": str(folder), "config": job.config, "overrides": job.overrides, "resume": resume}
        process.send(asked)
        try:
            state, message = self._watch(process, job)
        except BaseException:
            state, message = self._interrupt(process)
            self._settle(job, state, message)
            raise
        if state == UNREADABLE:  # begun again in a new place
            self.sweep.put_aside(job)
            return self.run(job)
        return self._settle(job, state, message)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _watch(self, process: JobProcess, job: Job) -> tuple[str, str]:
        minutes = job.config["trainer"]["timeout_minutes"]
        ends = time.monotonic() + 60 * minutes if minutes else None
        while (message := process.receive(LOOKS)) is None:
            self.tick()
            if self.stops():
                return self._interrupt(process)
            if ends is not None and time.monotonic() > ends:
                return self._stop_hanging(process, f"it was not done after trainer.timeout_minutes={minutes:g}")
        if "exit" in message:
            self.tick()  # it may have ended with all of the sweep
        return _outcome(message)

    def _stop_hanging(self, process: JobProcess, why: str) -> tuple[str, str]:
        if DUMP is not None:
            process.signal(DUMP)
            message = process.receive(DUMPS)
            if message is not None:  # it ended in this very moment
                return _outcome(message)
        self._kill(process)
        return FAILED, why

    def _interrupt(self, process: JobProcess) -> tuple[str, str]:
        """Ask the job to save itself and to end."""
        process.interrupt()
        try:
            message = process.receive(GRACE)
        except BaseException:  # asked for twice: at once
            self._kill(process)
            raise
        if message is None:
            self._kill(process)
            return INTERRUPTED, f"killed: it did not save itself within {GRACE:.0f} s"
        state, text = _outcome(message)
        return (state, text) if state == FINISHED else (INTERRUPTED, text)

    def _kill(self, process: JobProcess) -> None:
        process.kill()
        process.receive(GRACE)

    def _settle(self, job: Job, state: str, message: str) -> str:
        if state == RUNNING:
            return state
        settled = self.sweep.settle(job, state, message)
        if state != FINISHED:
            self.close()  # the next job gets a process that nothing has happened to
        return settled


def _outcome(message: Mapping[str, Any]) -> tuple[str, str]:
    """State and message of what a job process sent last."""
    if "exit" not in message:
        return message["state"], message["message"]
    code = message["exit"]
    if code is None:
        return FAILED, "its process ended together with the one it was forked from: most likely memory ran out"
    if code >= 0:
        return FAILED, f"its process ended by itself with code {code}"
    name = signal.Signals(-code).name
    hint = ": killed by somebody, or by the system because memory ran out" if name == "SIGKILL" else ""
    return FAILED, f"its process was ended by {name}{hint}"
