"""Watches over the jobs of a sweep: whatever happens to one, it has a state, and the next one starts."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cnnbench.results import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.jobs import Job
from cnnbench.sweep.server import DUMP, MODULE, PREFIX, UNREADABLE, remove_abandoned
from cnnbench.whole_files import InUse

LOOKS = 0.2  # seconds between two looks at a job's time and at whether the sweep is to stop
DUMPS = 0.5  # seconds for a hanging job to write down where it hangs
GRACE = 30.0  # seconds for an interrupted job to save itself


class Lost(Exception):
    """The server ended, and with it the job processes that were forked from it."""


@dataclass(frozen=True)
class Room:
    """What a job process may use of the machine; None is all of it.

    Attributes:
        threads: the most that a run computes with.
        cores: how many processors its loaders count on.
    """

    threads: int | None = None
    cores: int | None = None


class Server:
    """The process of `sweep.server`, started when it is needed or found by its address; used as a context, it ends.

    Args:
        room: of each job process.
        address: the socket of one that runs already on this machine.
    """

    def __init__(self, room: Room | None = None, *, address: str | None = None) -> None:
        self.room = room or Room()
        self.address = address
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start one, in place of any other: it is ready when torch is imported, and may be asked before."""
        self.close()
        # A socket's address is at most about 100 bytes long; a temporary folder may be deeper.
        where = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
        remove_abandoned(Path(where))
        self._folder = tempfile.mkdtemp(prefix=PREFIX, dir=where)
        self.address = str(Path(self._folder) / "server")
        # torch counts GPUs without starting CUDA, which would not survive the fork; OpenBLAS keeps no threads.
        environment = os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, self.address],
            stdin=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C on the terminal reaches the jobs once, through their supervisor
        )

    def check(self, configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the `data` of each config are and its number of `threads`, or the `problem` for which it cannot run.

        Raises:
            Lost: the server ended meanwhile.
        """
        if self.address is None:
            self.start()
        with self._connect() as connection:
            stream = connection.makefile("rwb")
            stream.write(json.dumps({"check": list(configs)}).encode() + b"\n")
            stream.flush()
            line = stream.readline()
        if not line:
            raise Lost("the process that checks the jobs and decodes their data died: most likely memory ran out")
        return json.loads(line)["checked"]

    def job_process(self, argv: Sequence[str]) -> "JobProcess":
        """A process for jobs; if the server has ended, of a new one.

        Args:
            argv: the command that the runs record as theirs.
        """
        request = {"threads": self.room.threads, "cores": self.room.cores, "argv": list(argv)}
        if self.address is not None:
            with contextlib.suppress(OSError, Lost):
                return JobProcess(self._connect(), request)
        self.start()
        return JobProcess(self._connect(), request)

    def _connect(self) -> socket.socket:
        assert self.address is not None
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(self.address)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                # It binds its address before it imports anything: a moment after its start.
                if self._process is None or self._process.poll() is not None:
                    connection.close()
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        """End the server and every process that came from it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class JobProcess:
    """A process that does one job after the other.

    Raises:
        Lost: the server ended before it could fork.
    """

    def __init__(self, connection: socket.socket, request: Mapping[str, Any]) -> None:
        self._connection = connection
        self._unread = b""
        self._ended = False
        self.send(request)
        hello = self.receive(None) or {}
        if "pid" not in hello:
            connection.close()
            raise Lost
        self.pid: int = hello["pid"]

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a line of JSON; if nobody reads it, `receive` says why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float | None) -> dict[str, Any] | None:
        """The next message; None where none comes in time, and `{"exit": None}` where the server has ended."""
        while True:
            line, found, rest = self._unread.partition(b"\n")
            if found:
                self._unread = rest
                # A process that was killed may have left half a line.
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    self._ended = "exit" in message
                    return message
                continue
            if not select.select([self._connection], [], [], seconds)[0]:
                return None
            try:
                received = self._connection.recv(65536)
            except ConnectionResetError:
                received = b""
            if not received:
                self._ended = True
                return {"exit": None}
            self._unread += received

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended: another one may have its number by now."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self._connection.close()


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
        process.signal(signal.SIGINT)
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
        process.signal(signal.SIGKILL)
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
    status = message["exit"]
    if status is None:
        return FAILED, "its process ended together with the one it was forked from: most likely memory ran out"
    if not os.WIFSIGNALED(status):
        return FAILED, f"its process ended by itself with code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    hint = ": killed by somebody, or by the system because memory ran out" if number == signal.SIGKILL else ""
    return FAILED, f"its process was ended by {signal.Signals(number).name}{hint}"
