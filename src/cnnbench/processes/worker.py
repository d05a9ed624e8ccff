"""Child processes, each with a connection to this one, which they never outlive.

A worker ignores the signals that are often sent to a whole process group: its parent decides when it ends. It ends with
its parent even if that is killed: by `PR_SET_PDEATHSIG` on Linux, and by its closed connection elsewhere.
"""

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import connection as connections
from multiprocessing import resource_tracker, util
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, Protocol

from cnnbench.processes import signals

PR_SET_PDEATHSIG = 1
KILLED = ": somebody killed it, or the system did because memory ran out"
STARTS = 1.0  # seconds that an interrupt waits for the process to handle signals
# Forking a process that has loaded torch is safe only on Linux; torch's DataLoader has the same rule.
CAN_FORK = sys.platform == "linux" and hasattr(os, "fork")


class WorkerEnded(Exception):
    """A worker has ended, and all its messages have been received.

    Attributes:
        code: its exit code, or the negative number of the signal that ended it; None if unknown.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(_describe_exit(code))
        self.code = code


@dataclass(frozen=True)
class Interrupt:
    """The message that raises SIGINT in a worker. Unlike a signal, it works on Windows and cannot come too early."""


class ProcessHandle(Protocol):
    """The part of `multiprocessing`'s processes that a worker uses.

    Attributes:
        exitcode: as in `WorkerEnded`; also None before `join` has returned.
    """

    pid: int | None
    exitcode: int | None

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""

    def kill(self) -> None:
        """End it at once."""


class Worker:
    """A process at the other end of a connection.

    Args:
        connection: to the process; this worker alone uses and closes it.
    """

    def __init__(self, connection: Connection, process: ProcessHandle) -> None:
        self.connection, self.process = connection, process
        self._kill_at_exit: util.Finalize | None = None

    @classmethod
    def start(
        cls,
        target: Callable[..., None],
        *arguments: Any,
        fork: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> "Worker":
        """Start a process that calls `target(connection, *arguments)`.

        Args:
            fork: start a copy of this process, which may not start others; otherwise a new interpreter, in a process
                group of its own, without the threads and the CUDA context of this one.
            environment: variables of a new interpreter besides those of this one.

        Raises:
            OSError: the system starts no more processes.
        """
        context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(target, theirs, os.getpid(), fork, arguments), daemon=fork)
        # While our copy of their end is open, we would never notice that the process has ended.
        with theirs, _set_environment(environment or {}), nullcontext() if fork else _hide_main_module():
            if not fork and hasattr(signal, "pthread_sigmask"):
                resource_tracker.ensure_running()  # starting it inside `hold` would unblock the signals
            try:
                with signals.hold():  # raises a signal when the block ends, so that there is a process to close
                    process.start()
                    worker = cls(ours, process)
                    # At exit, multiprocessing sends SIGTERM to its children, which ignore it, and waits forever.
                    worker._kill_at_exit = util.Finalize(None, process.kill, exitpriority=0)
            except BaseException:
                if process.pid is not None:
                    process.kill()
                    process.join()
                ours.close()
                raise
        return worker

    def send(self, message: Any) -> None:
        """Send a message; if the process has ended, only `receive` raises."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message; None if none comes within `timeout` seconds.

        Raises:
            WorkerEnded: the process has ended.
        """
        try:
            return self.connection.recv() if self.connection.poll(timeout) else None
        except (EOFError, OSError):
            self.process.join()
            raise WorkerEnded(self.process.exitcode) from None

    def interrupt(self) -> None:
        """Raise SIGINT in the process, if it has an `Inbox`."""
        self.send(Interrupt())

    def close(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        if self._kill_at_exit is not None:
            self._kill_at_exit.cancel()


def wait_for_any(workers: Iterable[Worker], timeout: float | None = None) -> list[Worker]:
    """Wait for messages, up to `timeout` seconds; return the workers that have one or have ended."""
    by_connection = {worker.connection: worker for worker in workers}
    return [by_connection[ready] for ready in connections.wait(list(by_connection), timeout)]  # type: ignore[index]


class Inbox:
    """The messages of a worker's parent, in the worker, which ends when the parent closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._read_messages, daemon=True).start()

    def receive(self, timeout: float | None = None) -> Any:
        """The next message; None if none comes within `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def _read_messages(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message = self._connection.recv()
                if not isinstance(message, Interrupt):
                    self._messages.put(message)
                    continue
                deadline = time.monotonic() + STARTS
                while signal.getsignal(signal.SIGINT) == signal.SIG_IGN and time.monotonic() < deadline:
                    time.sleep(0.01)  # the main thread has a task, and does not handle signals yet
                if hasattr(signal, "pthread_kill"):
                    # To the main thread, so that it also interrupts a system call there.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                else:
                    signal.raise_signal(signal.SIGINT)
        os._exit(1)


def end_with_parent(parent: int) -> None:
    """Let Linux kill this process when the thread of the parent that started it ends; other systems cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)


def _run(target: Callable[..., None], connection: Connection, parent: int, forked: bool, arguments: Any) -> None:
    signals.leave_to_parent()
    end_with_parent(parent)
    if not forked:
        os.dup2(2, 1)  # what libraries print is not part of the command's output
        if hasattr(os, "setpgid"):
            os.setpgid(0, 0)  # Ctrl-C on the terminal reaches the parent alone
    target(connection, *arguments)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return f"its process ended together with the one it was forked from{KILLED}"
    if code >= 0:
        return f"its process ended by itself with code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}{KILLED if name == 'SIGKILL' else ''}"


@contextmanager
def _hide_main_module() -> Iterator[None]:
    """Keep a new interpreter from importing `__main__`, which no target of a worker needs."""
    # It would run the user's script again, which calls the Python API without a guard.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _set_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a process that is started inside; libraries such as BLAS read them only when loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
