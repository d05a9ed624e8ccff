"""Processes that train, a trial at a time; whoever holds the study talks to them through pipes.

They are spawned, so that none inherits threads or a CUDA context. They leave Ctrl-C and a closed terminal to their
parent, stop politely at SIGTERM, and end with their parent, however it ends.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any

from cnnbench.config.schema import Config
from cnnbench.processes import signals
from cnnbench.processes.pool import end_with
from cnnbench.processes.signals import STOPS, Terminated
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, PRUNED, RunFolder, format_resume_command

PATIENCE = 20.0  # seconds that a process has to stop before it is killed
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
Message = tuple[str, Any]  # an epoch's row as ("epoch", row), which waits for an answer, or a state and why


class Worker:
    """A process that trains one config after another.

    Args:
        one_thread: whether it computes with one thread, because it is not alone.
    """

    def __init__(self, *, one_thread: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, os.getpid()), name="cnnbench trial")
        with _born_deaf(), _environment(ONE_THREAD if one_thread else {}):
            self.process.start()
        theirs.close()

    def train(self, config: Config, folder: Path, overrides: list[str], *, resume: bool) -> None:
        """Begin a run; its epochs and its end come as messages."""
        self._send((config, folder, overrides, resume))

    def answer(self, prune: bool) -> None:
        """Let it go on after an epoch, or not."""
        self._send(prune)

    def receive(self) -> Message:
        """What it says, or that it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return FAILED, f"the process died ({_reason(self.process.exitcode)})"

    @property
    def alive(self) -> bool:
        """Whether it can take another run."""
        return self.process.exitcode is None and not self.pipe.closed

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # where it has died, `receive` says so
            self.pipe.send(message)


def ready(workers: list[Worker], timeout: float | None = None) -> list[Worker]:
    """Those that have something to say, once one has, or none after so many seconds."""
    pipes = {worker.pipe: worker for worker in workers}
    return [pipes[pipe] for pipe in connection.wait(list(pipes), timeout)]  # type: ignore[index]


def dismiss(workers: list[Worker]) -> None:
    """End the processes: idle ones at once, the others when their run folder says that they were interrupted."""
    for worker in workers:
        if worker.process.is_alive():
            worker.process.terminate()
    try:
        for worker in workers:
            worker.process.join(PATIENCE)
    finally:  # also at a second Ctrl-C
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def _serve(pipe: connection.Connection, parent: int) -> None:
    """What the process does: a run for each request, until it is stopped."""
    signals.listen()
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        while True:
            pipe.send(_run(pipe, *pipe.recv()))
    except (Terminated, EOFError, OSError):
        return  # whoever asked is not there any more, or does not want it


def _run(pipe: connection.Connection, config: Config, folder: Path, overrides: list[str], resume: bool) -> Message:
    from cnnbench.experiment.run import run_job
    from cnnbench.training.trainer import Pruned

    def judged(row: Mapping[str, Any]) -> None:
        try:
            pipe.send(("epoch", dict(row)))
            while not pipe.poll(0.1):
                signals.check()
            stop = pipe.recv()
        except (EOFError, OSError):  # nobody is there any more; the run is none the worse for it
            raise Terminated from None
        if stop:
            raise Pruned(f"after epoch {row['epoch']}: other trials were better by then")

    try:
        run_job(config, folder, overrides, resume=resume, test=False, on_epoch=judged)
    except Pruned:
        return PRUNED, ""
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"
    except BaseException:
        RunFolder(folder).set_status(INTERRUPTED, f"go on with: {format_resume_command('tune', folder.parent)}")
        raise
    return FINISHED, RunFolder(folder).read_status()["message"]


@contextmanager
def _born_deaf() -> Iterator[None]:
    """A process started here has all but SIGTERM blocked from its first instruction; what comes now waits for us."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows, where the process sees to it itself
        yield
        return
    resource_tracker.ensure_running()  # it unblocks Ctrl-C when it starts one
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOPS} - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started here: BLAS reads them once, when it is loaded."""
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


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
