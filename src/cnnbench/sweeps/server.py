"""The process from which job processes are forked, so that torch is imported and data are decoded only once.

Its parent sends configs to check, and the server keeps their data in memory. Job processes are requested through an
abstract Unix socket, which leaves no file behind, also by other processes of the same user, such as a launcher's
workers. The server must use neither torch threads nor CUDA, because neither survives a fork. Where processes cannot be
forked, as on Windows, each job gets a new interpreter, which decodes its own data.
"""

import contextlib
import gc
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from cnnbench.plugins.loading import describe_error, load_from_parent, locate_error
from cnnbench.processes.capacity import Need
from cnnbench.processes.worker import CAN_FORK, Worker, WorkerEnded, end_with_parent
from cnnbench.quality.findings import RefusedData
from cnnbench.sweeps.job_process import JobProcessRequest, JobRoom, do_jobs


@dataclass(frozen=True)
class JobCheck:
    """Whether a job can run.

    Attributes:
        problem: why it cannot; None if it can.
        refuses_data: whether `data.check=fail` is the reason.
        data: lines that describe its data.
        need: the cores and memory that it needs.
        macs: multiply-accumulates of the forward passes of all its epochs.
    """

    problem: str | None = None
    refuses_data: bool = False
    data: Sequence[str] = ()
    need: Need = field(default_factory=Need)
    macs: int = 0


class JobServer:
    """A client of the server, which it starts when needed, and ends as a context manager.

    Args:
        room: what each job process may use of the machine.
        address: of a server that already runs on this machine.
    """

    def __init__(self, room: JobRoom | None = None, *, address: str | None = None) -> None:
        self.room, self.address = room or JobRoom(), address
        self.worker: Worker | None = None  # None if another process owns the server

    def __enter__(self) -> "JobServer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def start(self) -> None:
        """Start a new server and end the old one. Requests wait until it has imported torch."""
        self.close()
        # Make torch count GPUs without starting CUDA, and OpenBLAS keep no threads: neither would survive a fork.
        environment = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OPENBLAS_NUM_THREADS": "1"}
        if not CAN_FORK:
            self.worker = Worker.start(_serve, None)
            return
        self.address = f"\0cnnbench-{secrets.token_hex(16)}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(128)
            self.worker = Worker.start(_serve, listener, environment=environment)

    def check(self, configs: Sequence[Mapping[str, Any]]) -> list[JobCheck]:
        """Check whether each config can run; its data stay in the server's memory.

        Raises:
            WorkerEnded: the server died.
        """
        if self.worker is None:
            self.start()
        assert self.worker is not None
        self.worker.send(list(configs))
        return self.worker.receive()

    def start_job_process(self, argv: Sequence[str]) -> Worker:
        """Start a process for jobs; restart the server if it has died.

        Args:
            argv: the command that the runs record.

        Raises:
            WorkerEnded: the server died again.
        """
        request = JobProcessRequest(self.room, list(argv))
        if CAN_FORK:
            with contextlib.suppress(OSError, EOFError):
                return self._fork(request)
            self.start()
            try:
                return self._fork(request)
            except (OSError, EOFError):
                raise WorkerEnded(None) from None
        # The interpreter that has checked the jobs, and has their data, becomes the first job process.
        waiting, self.worker = self.worker, None
        if waiting is None or waiting.process.exitcode is not None:
            waiting = Worker.start(_serve, None)
        waiting.send(request)
        return waiting

    def _fork(self, request: JobProcessRequest) -> Worker:
        if self.address is None:
            self.start()
        assert self.address is not None
        connection = _connect(self.address)
        connection.send(request)
        pid = connection.recv()
        if pid is not None:
            return Worker(connection, _ForkedProcess(self.address, pid))
        connection.close()
        fresh = Worker.start(_serve, None)  # the server has initialized CUDA, so nothing can be forked from it
        fresh.send(request)
        return fresh

    def close(self) -> None:
        """End the server and every process that was forked from it."""
        if self.worker is not None:
            self.worker.close()
            self.worker = self.address = None


class _ForkedProcess:
    """A job process. It is a child of the server, which alone learns its exit code."""

    def __init__(self, address: str, pid: int) -> None:
        self.pid: int | None = pid
        self.exitcode: int | None = None
        self._address, self._has_ended = address, False

    def join(self, timeout: float | None = None) -> None:
        if self._has_ended:
            return
        with contextlib.suppress(OSError, EOFError), _connect(self._address) as connection:
            connection.send(self.pid)
            self.exitcode = connection.recv()
        self._has_ended = True

    def kill(self) -> None:
        if not self._has_ended:  # afterwards, another process may have the same number
            assert self.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _connect(address: str) -> Connection:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(address)
        return _take_over(other)


def _take_over(other: socket.socket) -> Connection:
    """Turn a socket into a connection.

    Raises:
        ConnectionRefusedError: the process at the other end belongs to another user.
    """
    # Messages are unpickled, so they could hold code.
    _, user, _ = struct.unpack("3i", other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.geteuid():
        raise ConnectionRefusedError("the other end belongs to another user")
    return Connection(other.detach())


def _serve(connection: Connection, listener: socket.socket | None) -> NoReturn:
    """Run the server until its parent closes the connection."""
    gc.disable()  # the imports leave no garbage, and searching for it takes time
    import torch

    import cnnbench.experiment.run
    import cnnbench.runs.figures  # noqa: F401

    # A thread pool does not survive a fork; each job process starts its own.
    torch.set_num_threads(1)
    logging.getLogger("cnnbench").propagate = False
    # The objects so far live until the end. Searching them for garbage would take 0.1 s in every other job.
    gc.collect()
    gc.freeze()
    gc.enable()
    children: dict[int, BaseProcess] = {}
    while True:
        ready = wait([connection] if listener is None else [connection, listener])
        if listener in ready:
            with contextlib.suppress(OSError, EOFError):  # the client has ended
                _answer(listener, children)
        if connection in ready:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # this also ends the children
            if isinstance(message, JobProcessRequest):
                do_jobs(connection, message)
            connection.send([_check(config) for config in message])


def _answer(listener: socket.socket, children: dict[int, BaseProcess]) -> None:
    """Answer a request: fork a job process and send its number, or send the exit code of one."""
    import torch

    with listener.accept()[0] as other, _take_over(other) as connection:
        message = connection.recv()
        if not isinstance(message, JobProcessRequest):
            child = children.pop(message)
            child.join()
            connection.send(child.exitcode)
        elif torch.cuda.is_initialized():
            connection.send(None)
        else:
            fork = multiprocessing.get_context("fork")
            child = fork.Process(target=_begin_jobs, args=(listener, connection, message, os.getpid()))
            child.start()
            assert child.pid is not None
            children[child.pid] = child
            connection.send(child.pid)


def _begin_jobs(listener: socket.socket, connection: Connection, request: JobProcessRequest, server: int) -> NoReturn:
    end_with_parent(server)
    listener.close()
    do_jobs(connection, request)


def _check(plain: dict[str, Any]) -> JobCheck:
    from cnnbench.config.schema import from_dict
    from cnnbench.experiment.build import build_parts, estimate_need

    try:
        load_from_parent()
        config = from_dict(plain)
        parts = build_parts(config, shapes_only=True)
    except (ValueError, OSError) as error:
        return JobCheck(problem=f"{locate_error(error)}{error}", refuses_data=isinstance(error, RefusedData))
    except Exception as error:
        if not locate_error(error):
            raise
        return JobCheck(problem=describe_error(error))  # a plug-in may raise anything, and must not end this process
    data = [parts.dataset.describe(), *(f"warning: {note}" for note in parts.dataset.notes)]
    macs = parts.complexity.macs * len(parts.dataset.train) * config.trainer.epochs
    return JobCheck(data=data, need=estimate_need(config, parts), macs=macs)
