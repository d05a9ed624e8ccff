"""The processes that do a sweep's jobs, as who watches over them sees them: forked from a server, or fresh ones."""

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cnnbench.sweep.fresh import CAN_FORK_A_SERVER, FreshProcess, asked
from cnnbench.sweep.server import MODULE, PREFIX, remove_abandoned


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
        self._fresh: list[FreshProcess] = []  # where nothing can be forked; the last may wait for its first job
        self._waiting: FreshProcess | None = None

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start one, in place of any other: it is ready when torch is imported, and may be asked before."""
        self.close()
        if not CAN_FORK_A_SERVER:
            self._waiting = self._start_fresh()
            return
        # A socket's address is at most about 100 bytes long; a temporary folder may be deeper.
        where = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
        remove_abandoned(Path(where))
        self._folder = tempfile.mkdtemp(prefix=PREFIX, dir=where)
        self.address = str(Path(self._folder) / "server")
        # torch counts GPUs without starting CUDA, which would not survive the fork; OpenBLAS keeps no threads.
        forked = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, self.address],
            stdin=subprocess.PIPE,
            env=os.environ | forked,
            process_group=0,  # Ctrl-C on the terminal reaches the jobs once, through their supervisor
        )

    def _start_fresh(self) -> FreshProcess:
        self._fresh.append(FreshProcess(MODULE, os.environ))
        return self._fresh[-1]

    def check(self, configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Lines on the `data` of each config and its number of `threads`, or the `problem` for which it cannot run.

        Raises:
            Lost: the server ended meanwhile.
        """
        if self.address is None and self._waiting is None:
            self.start()
        message = {"check": list(configs)}
        if self._waiting is not None:
            line = asked(self._waiting.connection, message)
        else:
            with self._connect() as connection:
                line = asked(connection, message)
        if not line:
            raise Lost("the process that checks the jobs and decodes their data died: most likely memory ran out")
        return json.loads(line)["checked"]

    def job_process(self, argv: Sequence[str]) -> "JobProcess":
        """A process for jobs; if the server has ended, of a new one.

        Args:
            argv: the command that the runs record as theirs.
        """
        request = {"threads": self.room.threads, "cores": self.room.cores, "argv": list(argv)}
        if not CAN_FORK_A_SERVER:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                with contextlib.suppress(Lost):
                    return JobProcess(waiting.connection, request, process=waiting.process)
            fresh = self._start_fresh()
            return JobProcess(fresh.connection, request, process=fresh.process)
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
        for fresh in self._fresh:
            fresh.close()
        self._fresh, self._waiting = [], None
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

    Args:
        process: the process itself, where it was not forked from the server.

    Raises:
        Lost: the server ended before it could fork.
    """

    def __init__(
        self, connection: socket.socket, request: Mapping[str, Any], *, process: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self._connection, self._process = connection, process
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
                return {"exit": self._process.wait() if self._process else None}
            self._unread += received

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended: another one may have its number by now."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def interrupt(self) -> None:
        """Ask the job to save itself and to end."""
        if self._process is None:
            self.signal(signal.SIGINT)
        elif not self._ended:
            self.send({"interrupt": True})

    def kill(self) -> None:
        """End it at once; `receive` hears of it."""
        if self._process is None:
            self.signal(signal.SIGKILL)
        else:
            self._process.kill()

    def close(self) -> None:
        """End it at once."""
        self.kill()
        self._connection.close()
