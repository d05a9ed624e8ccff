"""A process that trains jobs of a sweep, one after the other."""

import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from cnnbench.processes import signals
from cnnbench.processes.cores import limit_cores, limit_threads
from cnnbench.processes.worker import Inbox
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.runs.pictures import Picture, draw_in_turn
from cnnbench.storage.atomic import InUse, NoneReadable
from cnnbench.storage.regular import open_to_append

EXPENDABLE = 500  # of 1000: when memory runs out, the kernel ends a job first, and not the process that supervises it
UNREADABLE = "unreadable"  # the state of a job whose checkpoints are all damaged


@dataclass(frozen=True)
class JobRoom:
    """What a job process may use of the machine; None is all of it.

    Attributes:
        threads: the most that a run computes with.
        cores: how many processors its loaders count on.
    """

    threads: int | None = None
    cores: int | None = None


@dataclass(frozen=True)
class JobProcessRequest:
    """A request for a process that runs jobs.

    Attributes:
        argv: the command that the runs record as theirs.
    """

    room: JobRoom
    argv: list[str]


@dataclass(frozen=True)
class JobOrder:
    """The next job of a job process.

    Attributes:
        resume: go on from the checkpoint in the folder.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    resume: bool


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended: its state, and why if it is not finished."""

    state: str
    message: str = ""
    ran_out_of_memory: bool = False


@dataclass(frozen=True)
class JobIsDrawing:
    """The message that a job has only its pictures left to draw, so that the next one can start."""


def do_jobs(connection: Connection, request: JobProcessRequest) -> NoReturn:
    """Answer each `JobOrder` with a `JobOutcome`, and before it `JobIsDrawing`, until the other end closes."""

    def draw(pictures: Sequence[Picture]) -> None:
        with contextlib.suppress(OSError):  # the other end has gone, and the inbox ends this process
            connection.send(JobIsDrawing())
        draw_in_turn(pictures)

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


def _do(order: JobOrder, draw: Callable[[Sequence[Picture]], None]) -> JobOutcome:
    from cnnbench.config.schema import from_dict
    from cnnbench.experiment.exhaustion import OutOfMemory
    from cnnbench.experiment.run import run_job

    minutes = order.config["trainer"]["timeout_minutes"]
    try:
        with _redirect_errors(order.folder / "train.log"):
            if minutes:  # shortly before the supervisor ends it, so that the log shows where it hangs
                faulthandler.dump_traceback_later(60 * minutes)
            signals.listen()
            try:
                run_job(from_dict(order.config), order.folder, order.overrides, resume=order.resume, draw=draw)
            finally:
                signals.leave_to_parent()
                faulthandler.cancel_dump_traceback_later()
    except InUse as error:
        return JobOutcome(RUNNING, str(error))
    except NoneReadable as error:
        return JobOutcome(UNREADABLE, str(error))
    except Exception as error:
        return JobOutcome(FAILED, f"{type(error).__name__}: {error}", isinstance(error, OutOfMemory))
    except BaseException as error:
        return JobOutcome(INTERRUPTED, type(error).__name__)
    return JobOutcome(FINISHED)


@contextmanager
def _redirect_errors(path: Path) -> Iterator[None]:
    """Send standard error to a file, including the traceback of a crash."""
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
