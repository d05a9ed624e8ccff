"""Jobs of a sweep that differ only in their seeds, trained together in one process (`sweep.together`)."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from cnnbench.processes.capacity import MOST_TOGETHER, Need
from cnnbench.processes.worker import Worker, WorkerEnded
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED, RUNNING
from cnnbench.storage.atomic import InUse
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.job_process import UNREADABLE, JobOrder, JobOutcome
from cnnbench.sweeps.jobs import SweepJob, hash_config
from cnnbench.sweeps.server import JobServer
from cnnbench.sweeps.supervisor import GRACE, KILLED, LOOKS, describe_interrupt, describe_timeout, find_deadline

FEWEST_ON_CPU = 8  # the fewest jobs that train faster together; benchmarks/README.md has the measurements


def plan_groups(jobs: Sequence[SweepJob]) -> tuple[list[list[SweepJob]], list[SweepJob]]:
    """The groups of jobs to train together, and the jobs to train alone, both in order."""
    alike: dict[str, list[SweepJob]] = {}
    alone = []
    for job in jobs:
        if job.config["sweep"]["together"]:
            alike.setdefault(hash_config(job.config, with_seeds=False), []).append(job)
        else:
            alone.append(job)
    groups = []
    for several in alike.values():
        parts = math.ceil(len(several) / MOST_TOGETHER)
        size = math.ceil(len(several) / parts)  # equal sizes, so that the last group is not much smaller
        groups += [several[at : at + size] for at in range(0, len(several), size)]
    return groups, alone


def check_groups(jobs: Sequence[SweepJob], needs: Mapping[str, Need]) -> None:
    """Check that each group is large enough to be faster than separate jobs.

    Args:
        needs: the need of each job, by its name.

    Raises:
        ValueError: a group on the CPU is too small.
    """
    for group in plan_groups(jobs)[0]:
        if needs[group[0].name].device == "cpu" and len(group) < FEWEST_ON_CPU:
            raise ValueError(
                f"sweep.together=true: on the CPU, {len(group)} jobs that differ only in their seeds train more slowly "
                f"together; {FEWEST_ON_CPU} or more train faster: use sweep.seeds={FEWEST_ON_CPU}, or leave it out"
            )


def run_groups(
    jobs: Sequence[SweepJob], sweep: SweepFolder, server: JobServer, *, tick: Callable[[], None] = lambda: None
) -> list[SweepJob]:
    """Train the groups one after the other, in a process that is replaced if a group crashes it.

    Jobs whose checkpoints cannot be read start again in new folders, as a group of their own.

    Returns:
        The jobs to train alone.

    Raises:
        BaseException: raised by `tick` or a signal; the running jobs have been interrupted and have saved their state.
    """
    (waiting, alone), worker = plan_groups(jobs), None
    try:
        while waiting:
            orders = _prepare(sweep, waiting.pop(0))
            if not orders:
                continue
            group = [job for job, _ in orders]
            try:
                worker = worker or server.start_job_process(sweep.argv)
                worker.send([order for _, order in orders])
                outcomes = _await_outcomes(worker, group, tick)
            except WorkerEnded as ended:
                tick()  # the whole sweep may have been stopped
                outcomes = [JobOutcome(FAILED, str(ended))] * len(group)
            except BaseException:
                if worker is not None:
                    _record(sweep, group, _interrupt(worker, len(group)))
                raise
            if again := _record(sweep, group, outcomes):
                waiting.append(again)
            if worker is not None and any(outcome.state != FINISHED for outcome in outcomes):
                worker.close()
                worker = None
            tick()
    finally:
        if worker is not None:
            worker.close()
    return alone


def _prepare(sweep: SweepFolder, jobs: Sequence[SweepJob]) -> list[tuple[SweepJob, JobOrder]]:
    """The orders for those jobs whose folders no other process uses."""
    orders = []
    for job in jobs:
        with suppress(InUse):
            resume = sweep.prepare(job)
            orders.append((job, JobOrder(sweep.path / job.name, job.config, job.overrides, resume)))
    return orders


def _await_outcomes(worker: Worker, jobs: Sequence[SweepJob], tick: Callable[[], None]) -> list[JobOutcome]:
    """Wait until the jobs end; the time limit of one job holds for the whole group."""
    ends = find_deadline(jobs[0])
    while (outcomes := worker.receive(LOOKS)) is None:
        tick()
        if ends is not None and time.monotonic() > ends:
            return [describe_timeout(jobs[0])] * len(jobs)
    return outcomes


def _interrupt(worker: Worker, count: int) -> list[JobOutcome]:
    """Let the jobs save their state and end."""
    worker.interrupt()
    try:
        outcomes = worker.receive(GRACE)
    except WorkerEnded as ended:
        return [JobOutcome(INTERRUPTED, str(ended))] * count
    if outcomes is None:
        return [KILLED] * count
    return [describe_interrupt(outcome) for outcome in outcomes]


def _record(sweep: SweepFolder, jobs: Sequence[SweepJob], outcomes: Sequence[JobOutcome]) -> list[SweepJob]:
    """Record how the jobs ended; return those that must start again."""
    again = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.state == UNREADABLE:
            sweep.set_aside(job)
            again.append(job)
        elif outcome.state != RUNNING:
            sweep.record_end(job, outcome.state, outcome.message)
    return again
