"""A process that trains trials of a search, one after the other. Its parent owns the study."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnbench.config.schema import Config
from cnnbench.plugins.loading import describe_error, load_from_parent
from cnnbench.processes import signals
from cnnbench.processes.signals import Terminated
from cnnbench.processes.worker import Inbox, Worker
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, PRUNED, RunFolder, format_resume_command

PATIENCE = 20.0  # seconds that a process has to save its trial before it is killed


@dataclass(frozen=True)
class TrialOrder:
    """A run to train next."""

    config: Config
    folder: Path
    overrides: list[str]
    resume: bool


@dataclass(frozen=True)
class TrialEpoch:
    """An epoch of the run, as a row of `metrics.csv`; the parent answers whether to prune the trial."""

    row: dict[str, Any]


@dataclass(frozen=True)
class TrialOutcome:
    """How the run ended."""

    state: str
    message: str = ""
    ran_out_of_memory: bool = False


def dismiss(workers: Sequence[Worker]) -> None:
    """End the processes: idle ones at once, the others once their run folders are marked as interrupted."""
    for worker in workers:
        worker.interrupt()
    deadline = time.monotonic() + PATIENCE
    try:
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:  # also at a second Ctrl-C
        for worker in workers:
            worker.close()


def train_trials(connection: Connection) -> None:
    """The work of a process: answer each `TrialOrder` with `TrialEpoch`s and a `TrialOutcome`."""
    signals.listen()
    try:
        inbox = Inbox(connection)
        while True:
            connection.send(_train(connection, inbox, inbox.receive()))
    except (KeyboardInterrupt, Terminated, OSError):
        return  # the parent has ended, or has closed the connection


def _train(connection: Connection, inbox: Inbox, order: TrialOrder) -> TrialOutcome:
    from cnnbench.experiment.lifetime import OutOfMemory
    from cnnbench.experiment.run import run_job
    from cnnbench.training.trainer import Pruned

    def judge(row: Mapping[str, Any]) -> None:
        with suppress(OSError):  # if the parent has ended, the inbox ends this process; the run can be resumed
            connection.send(TrialEpoch(dict(row)))
        # Training defers signals, so an interrupt does not end this wait by itself.
        while (prune := inbox.receive(0.1)) is None:
            signals.check()
        if prune:
            raise Pruned(f"after epoch {row['epoch']}: other trials were better at that point")

    try:
        load_from_parent()
        run_job(order.config, order.folder, order.overrides, resume=order.resume, test=False, on_epoch=judge)
    except Pruned:
        return TrialOutcome(PRUNED)
    except Exception as error:
        return TrialOutcome(FAILED, describe_error(error), isinstance(error, OutOfMemory))
    except BaseException:
        command = format_resume_command("tune", order.folder.parent)
        RunFolder(order.folder).set_status(INTERRUPTED, f"resume with: {command}")
        raise
    return TrialOutcome(FINISHED, RunFolder(order.folder).read_status()["message"])
