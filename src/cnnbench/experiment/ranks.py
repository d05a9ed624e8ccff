"""The other processes of a run on several devices: rank 0 starts them, starts their work, and watches them.

Each is a `Worker`: it ignores signals, and ends with rank 0, which saves and stops for all.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.experiment.lifetime import explain_exhaustion, is_out_of_memory
from cnnbench.plugins.loading import load_from_parent
from cnnbench.processes.cores import count_cores
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.processes.worker import Inbox, Worker, WorkerEnded, wait_for_any
from cnnbench.reproducibility import set_deterministic, use_threads
from cnnbench.runs.folder import RunFolder, format_resume_command
from cnnbench.training.device import resolve_device
from cnnbench.training.progress import Diverged
from cnnbench.training.ranks import (
    WAITS_FOR_OTHERS,
    ExchangeTimedOut,
    abort_exchange,
    join_ranks,
    leave_ranks,
    open_store,
    wait_for_ranks,
)

log = logging.getLogger("cnnbench")
REPORTS = 5.0  # seconds that a failed rank has to report why


@dataclass(frozen=True)
class RankOrder:
    """What a rank computes: its part of the run in this folder."""

    rank: Rank
    config: dict[str, Any]  # the run's, but with the device of this rank
    folder: Path
    resume: bool  # start from the last checkpoint


@dataclass(frozen=True)
class Begin:
    """The message that data may be loaded: rank 0 has decoded the files, and the others read its cache."""

    port: int  # where the ranks meet
    threads: int  # of torch, in each rank


@dataclass(frozen=True)
class Ready:
    """The message that a rank has loaded its data and is about to join the others."""


@dataclass(frozen=True)
class RankFailure:
    """The message with the reason why a rank ends."""

    text: str
    is_echo: bool  # the reason may be only that another rank has ended


class RankLost(RuntimeError):
    """Another process of the run has ended; `is_echo` is as in `RankFailure`."""

    def __init__(self, rank: int, count: int, reason: object, *, is_echo: bool = False) -> None:
        super().__init__(f"rank {rank} of {count} (from 0) ended: {reason}")
        self.is_echo = is_echo


class RankHangs(RuntimeError):
    """Another process of the run is alive and does not compute."""

    def __init__(self, count: int, folder: Path) -> None:
        minutes = WAITS_FOR_OTHERS.total_seconds() / 60
        who = "rank 1" if count == 2 else f"one of the ranks 1 to {count - 1}"
        super().__init__(
            f"{who} of {count} (from 0) hangs: it has not answered for {minutes:g} minutes. "
            f"Resume with: {format_resume_command('train', folder)}"
        )


class OtherRanks:
    """Ranks 1 and up, as rank 0 sees them; empty if the run has one device."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.workers: dict[int, Worker] = {}  # by rank
        self._is_closed = False

    def start(self, config: Config, folder: Path, *, resume: bool) -> None:
        """Start the processes, which import torch while this one loads the data."""
        kind = resolve_device(config.trainer.device).type
        for number in range(1, self.count):
            plain = to_dict(config)
            plain["data"]["check"] = "off"  # rank 0 checks the data
            plain["trainer"] |= {"device": f"cuda:{number}" if kind == "cuda" else kind, "devices": 1}
            order = RankOrder(Rank(number, self.count), plain, folder, resume)
            self.workers[number] = Worker.start(compute_part, order)

    def join(self, device: torch.device) -> Rank:
        """Wait until all ranks have their data, and connect them; returns the rank of this process.

        Raises:
            RankLost: one has failed.
        """
        threads, cores = torch.get_num_threads(), count_cores()
        if device.type == "cpu" and threads * self.count > cores:
            log.warning(
                "%d threads share %d core%s: trainer.threads=%d may be many times faster",
                threads * self.count, cores, "s" if cores > 1 else "", max(1, cores // self.count),
            )  # fmt: skip
        if not self.workers:
            return ALONE
        store, port = open_store()
        for worker in self.workers.values():
            worker.send(Begin(port, threads))
        for number in self.workers:
            if lost := self._receive(number):
                raise lost
        rank = Rank(0, self.count)
        join_ranks(rank, device, port=port, store=store)
        # NCCL waits for a lost rank until its timeout. On the CPU, a closed connection ends the exchange at once.
        if device.type == "cuda":
            threading.Thread(target=self._abort_when_lost, daemon=True).start()
        return rank

    def let_restore(self) -> None:
        """Let the other ranks read the last checkpoint, now that rank 0 has made sure that it can be read."""
        if self.workers:
            wait_for_ranks()

    def find_lost(self, seconds: float) -> RankLost | None:
        """The rank whose end broke the exchange; None if none ends in time."""
        echo = None
        waiting = {worker: number for number, worker in self.workers.items()}
        ends = time.monotonic() + seconds
        while waiting and (ready := wait_for_any(waiting, max(0, ends - time.monotonic()))):
            for worker in ready:
                lost = self._receive(waiting.pop(worker))
                if lost and not lost.is_echo:
                    return lost
                echo = lost or echo
        return echo

    def _receive(self, number: int) -> RankLost | None:
        """Wait for the next message of a rank; return the error to raise if it has ended or is about to."""
        try:
            message = self.workers[number].receive()
        except WorkerEnded as ended:
            return RankLost(number, self.count, ended)
        if isinstance(message, RankFailure):
            return RankLost(number, self.count, message.text, is_echo=message.is_echo)
        return None

    def close(self) -> None:
        """End the processes, and this one's connections with them."""
        self._is_closed = True
        for worker in self.workers.values():
            worker.close()
        if self.workers:
            leave_ranks()

    def _abort_when_lost(self) -> None:
        wait_for_any(self.workers.values())  # a rank that computes sends nothing
        if not self._is_closed:
            abort_exchange()


@contextmanager
def start_ranks(config: Config, folder: Path, *, resume: bool) -> Iterator[OtherRanks]:
    """Start the other ranks of a run, and end them when it ends here.

    Raises:
        RankLost, RankHangs: in place of the error that a broken exchange raised.
    """
    others = OtherRanks(config.trainer.devices)
    try:
        others.start(config, folder, resume=resume)
        yield others
    except ExchangeTimedOut as error:
        raise RankHangs(others.count, folder) from error
    except RuntimeError as error:
        # torch raises a plain RuntimeError if the exchange breaks; its cause is what the other rank reports.
        is_own = isinstance(error, RankLost | Diverged) or is_out_of_memory(error)
        if not is_own and (lost := others.find_lost(REPORTS)):
            raise lost from error
        raise
    finally:
        others.close()


def compute_part(connection: Connection, order: RankOrder) -> None:
    """Compute the part of one rank, in a process that rank 0 ends."""
    inbox = Inbox(connection)
    logging.disable()  # rank 0 logs the same messages
    tqdm.set_lock(threading.RLock())  # tqdm's default is a semaphore, which leaks if the process is killed
    try:
        _compute_part(connection, inbox, order)
    except Diverged:  # rank 0 sees the same losses and reports them
        pass
    except Exception as error:
        explained = explain_exhaustion(error, order.folder, from_dict(order.config))
        connection.send(RankFailure(f"{type(explained).__name__}: {explained}", type(explained) is RuntimeError))
        return
    inbox.receive()  # waits: an early end would look like a lost rank


def _compute_part(connection: Connection, inbox: Inbox, order: RankOrder) -> None:
    begin: Begin = inbox.receive()
    use_threads(begin.threads)
    config = from_dict(order.config)
    set_deterministic(config.trainer.deterministic)
    load_from_parent()
    parts = build_parts(config, test=False, within_memory=order.resume)
    connection.send(Ready())
    join_ranks(order.rank, parts.device, port=begin.port)
    state, train = prepare_training(config, RunFolder(order.folder), parts, test=False, rank=order.rank)
    wait_for_ranks()  # until rank 0 has restored its state
    if order.resume:
        state.restore()
    train()
