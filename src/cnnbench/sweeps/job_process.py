"""A process that runs jobs of a sweep: one after the other, or a group of them together."""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from cnnbench.plugins.loading import describe_error, load_from_parent
from cnnbench.processes import signals
from cnnbench.processes.cores import limit_cores, limit_threads
from cnnbench.processes.worker import Inbox
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.runs.pictures import Draw, Picture, draw_in_turn
from cnnbench.storage.atomic import InUse, NoneReadable
from cnnbench.storage.regular import open_to_append

EXPENDABLE = 500  # of 1000: if memory runs out, the kernel kills a job rather than the process that supervises it
UNREADABLE = "unreadable"  # the state of a job whose checkpoints are all damaged


@dataclass(frozen=True)
class JobRoom:
    """What a job process may use of the machine; None is all of it.

    Attributes:
        threads: the largest number of threads that a run computes with.
        cores: the number of cores that its data loaders may use.
    """

    threads: int | None = None
    cores: int | None = None


@dataclass(frozen=True)
class JobProcessRequest:
    """A request for a process that runs jobs.

    Attributes:
        argv: the command that the runs record.
    """

    room: JobRoom
    argv: list[str]


@dataclass(frozen=True)
class JobOrder:
    """The next job of a job process.

    Attributes:
        resume: whether to continue from the checkpoint in the folder.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    resume: bool


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended: its state and, unless it is finished, why."""

    state: str
    message: str = ""
    ran_out_of_memory: bool = False


@dataclass(frozen=True)
class JobIsDrawing:
    """The message that only the pictures of a job are left to draw, so that the next job can start."""


def do_jobs(connection: Connection, request: JobProcessRequest) -> NoReturn:
    """Answer each list of `JobOrder`s with a list of `JobOutcome`s, until the other end closes.

    The jobs of a list are trained together; a single one sends `JobIsDrawing` before its outcome.
    """
    waiting: list[Picture] = []  # drawn at the end, while the next job already trains in another process

    def draw(pictures: Sequence[Picture], *, wait: bool = True) -> None:
        waiting.extend(pictures)
        if wait:
            with contextlib.suppress(OSError):  # the other end is closed, and the inbox ends this process
                connection.send(JobIsDrawing())
            draw_in_turn(waiting)
            waiting.clear()

    limit_threads(request.room.threads)
    limit_cores(request.room.cores)
    sys.argv = request.argv
    logging.getLogger("cnnbench").setLevel(logging.INFO)
    faulthandler.enable()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE))
    inbox = Inbox(connection)
    while True:
        connection.send(_do(inbox.receive(), draw))


def _do(orders: Sequence[JobOrder], draw: Draw) -> list[JobOutcome]:
    from cnnbench.config.schema import from_dict
    from cnnbench.experiment.group import run_group
    from cnnbench.experiment.run import run_job, start_job

    first = orders[0]
    try:
        with _attend(first):  # a crash is logged in the folder of the first job
            load_from_parent()
            if len(orders) == 1:
                run_job(from_dict(first.config), first.folder, first.overrides, resume=first.resume, draw=draw)
                return [JobOutcome(FINISHED)]
            jobs = [start_job(from_dict(one.config), one.folder, one.overrides, resume=one.resume) for one in orders]
            members = run_group(jobs)
    except BaseException as error:
        return [_describe_end(error)] * len(orders)
    return [_describe_end(member.error) for member in members]


def _describe_end(error: BaseException | None) -> JobOutcome:
    from cnnbench.experiment.lifetime import OutOfMemory

    match error:
        case None:
            return JobOutcome(FINISHED)
        case InUse():
            return JobOutcome(RUNNING, str(error))
        case NoneReadable():
            return JobOutcome(UNREADABLE, str(error))
        case Exception():
            return JobOutcome(FAILED, describe_error(error), isinstance(error, OutOfMemory))
    return JobOutcome(INTERRUPTED, type(error).__name__)


@contextmanager
def _attend(order: JobOrder) -> Iterator[None]:
    """Let a job handle signals; log its errors and, if it hangs, its stack."""
    minutes = order.config["trainer"]["timeout_minutes"]
    with _redirect_errors(order.folder / "train.log"):
        # The supervisor ends the process shortly afterwards. faulthandler's own timer would read frames while other
        # threads change them, and crash.
        timer = threading.Timer(60 * (minutes or 0), faulthandler.dump_traceback)
        timer.daemon = True
        if minutes:
            timer.start()
        signals.listen()
        try:
            yield
        finally:
            signals.leave_to_parent()
            timer.cancel()


@contextmanager
def _redirect_errors(path: Path) -> Iterator[None]:
    """Redirect standard error to a file, including the traceback of a crash."""
    kept = os.dup(2)
    log = open_to_append(path)
    try:
        os.dup2(log, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(log)
