"""Run the jobs of a sweep with Hydra's launchers: joblib, Ray or Slurm.

Each worker of a launcher supervises its own job processes (`sweeps.supervisor`), so that a job that is killed or hangs
breaks neither the worker nor the launcher. A worker reads everything it needs from the sweep's folder.
"""

import atexit
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from cnnbench.cli import compose
from cnnbench.cli.compose.quoting import quote
from cnnbench.cli.compose.session import NO_LAUNCHER, get_hydra, start_hydra
from cnnbench.processes.cores import count_cores
from cnnbench.processes.signals import STOPS, leave_to_parent
from cnnbench.runs.folder import FAILED
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.job_process import JobRoom
from cnnbench.sweeps.jobs import SweepJob
from cnnbench.sweeps.progress import REFRESHES, SweepProgress
from cnnbench.sweeps.server import JobServer
from cnnbench.sweeps.supervisor import Supervisor

STOP = ".stop"  # a file in the sweep's folder that tells workers on every machine to start no more jobs


def count_jobs_at_once(name: str, launcher: DictConfig, threads: int = 1) -> int:
    """How many jobs a launcher runs at once, as far as its config says.

    Args:
        threads: the largest number of threads that a job computes with.

    Raises:
        ValueError: a number that joblib does not accept.
    """
    if name == "joblib":
        n_jobs = launcher.n_jobs
        if not isinstance(n_jobs, int) or n_jobs == 0:
            raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: must be a whole number from 1, or -1 for all cores")
        # joblib counts from the end: -1 means all cores, -2 all but one.
        return n_jobs if n_jobs > 0 else max(1, (count_cores() + 1 + n_jobs) // threads)
    if name == "ray":
        return int(launcher.ray.init.get("num_cpus") or count_cores())
    return int(launcher.get("array_parallelism") or count_cores())


def choose_jobs_at_once(request: compose.Request) -> int | None:
    """How many jobs the user wants at once, as far as the command says.

    Raises:
        ValueError: a number that the launcher does not accept, or two numbers.
    """
    most = None if request.sweep.jobs == "auto" else request.sweep.jobs
    if request.launcher == NO_LAUNCHER:
        return most
    named = f"hydra/launcher={request.launcher}"
    if request.sweep.together:
        raise ValueError(f"sweep.together=true trains jobs in one process, and {named} does not")
    if most is not None:
        raise ValueError(f"sweep.jobs={most} is for the command's own jobs, and {named} runs them: leave one out")
    return count_jobs_at_once(request.launcher, request.hydra.hydra.launcher)


def choose_room(name: str, launcher: DictConfig, at_once: int = 1) -> JobRoom:
    """The resources of each job: the whole machine if it runs alone, else its share or what the launcher grants."""
    if name in (NO_LAUNCHER, "joblib"):
        # The number of threads stays that of a job alone, because it changes bits.
        return JobRoom() if at_once == 1 else JobRoom(cores=max(1, count_cores() // at_once))
    given = launcher.ray.remote.get("num_cpus") if name == "ray" else launcher.get("cpus_per_task")
    threads = max(1, int(given or 1))
    return JobRoom(threads=threads, cores=threads)


@dataclass(frozen=True)
class Origin:
    """Where the sweep of a launcher's worker was started.

    Attributes:
        host: the machine of the sweep's command.
        address: the address of its server; None if workers start their own.
        parent: the process of the command, with which workers on the same machine end; None if they outlive it.
        room: the resources of each job.
    """

    host: str
    address: str | None
    parent: int | None
    room: JobRoom


def launch(request: compose.Request, jobs: Sequence[SweepJob], server: JobServer, progress: SweepProgress) -> None:
    """Run jobs with the launcher that a command names; their folders record how they ended.

    Raises:
        KeyboardInterrupt, Terminated: by a signal, once the running jobs have saved themselves.
    """
    sweep = progress.sweep
    # A Slurm job has its own resources, and continues when the process that submitted it has ended.
    is_apart = request.launcher == "submitit_slurm"
    address, parent = (None, None) if is_apart else (server.address, os.getpid())
    task = partial(run_one_job, origin=Origin(socket.gethostname(), address, parent, server.room))
    given = request.hydra.hydra.overrides.hydra
    overrides = [f"hydra.sweep.dir={quote(str(sweep.path))}"]
    overrides += [text for text in given if not text.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))]
    if request.launcher == "joblib":
        overrides.append(f"hydra.launcher.n_jobs={progress.at_once}")
    stop = sweep.path / STOP
    stop.unlink(missing_ok=True)
    try:
        with _refresh_often(progress), _delay_signals(stop.touch) as signals_seen:
            while jobs:
                failure = _launch_once(overrides, jobs, task)
                if signals_seen or failure is None:
                    return
                # Jobs that have not started are launched again, without those whose workers broke the launcher.
                untouched = [job for job in jobs if sweep.read_state(job) == ""]
                for job in jobs:  # those whose worker died have no status that says so
                    if job not in untouched and not sweep.is_finished(job) and sweep.read_state(job) != FAILED:
                        sweep.record_end(job, FAILED, f"its worker ended: {type(failure).__name__}")
                if len(untouched) == len(jobs):
                    raise failure
                jobs = untouched
    finally:
        stop.unlink(missing_ok=True)


def _launch_once(overrides: list[str], jobs: Sequence[SweepJob], task: Callable[[DictConfig], Any]) -> Exception | None:
    """Let Hydra's launcher call the task once for each job; return the error that broke the launcher, if any."""
    with start_hydra():
        hydra = get_hydra()
        config = hydra.compose_config("config", overrides, RunMode.MULTIRUN, from_shell=False)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
            task_function=task,
            config=config,
        )
        try:
            for returned in launcher.launch([[f"hydra.sweep.subdir={job.name}"] for job in jobs], 0):
                _ = returned.return_value  # raises the error of a worker that stopped before its job could fail
        except Exception as error:
            return error
    return None


_supervisor: Supervisor | None = None  # of this worker, which does one job after the other


def run_one_job(composed: DictConfig, *, origin: Origin) -> str:
    """Run a job in a launcher's worker. The job's config is in the sweep's folder.

    Returns:
        The state that the job ended in.
    """
    global _supervisor
    folder = Path(HydraConfig.get().runtime.output_dir)
    if _supervisor is None or _supervisor.sweep.path != folder.parent:
        _supervisor = _create_supervisor(folder.parent, origin)
    job = next(job for job in _supervisor.sweep.jobs if job.name == folder.name)
    return _supervisor.run(job)


def _create_supervisor(path: Path, origin: Origin) -> Supervisor:
    is_here = origin.host == socket.gethostname()
    parent = origin.parent if is_here else None
    # The sweep asks workers to stop by a file. A signal that ends the sweep may also reach every process it started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() == parent:  # started directly by the command, not by a pool's own process
        leave_to_parent()

    def end_without_sweep() -> None:
        try:
            if parent is not None and os.name != "nt":  # on Windows, signal 0 is no test but Ctrl-C
                os.kill(parent, 0)
        except OSError:
            os._exit(1)

    def watch() -> None:
        while True:
            end_without_sweep()
            time.sleep(REFRESHES)

    threading.Thread(target=watch, daemon=True).start()
    server = JobServer(origin.room, address=origin.address if is_here else None)
    atexit.register(server.close)
    sweep = SweepFolder(path)
    return Supervisor(sweep, server, argv=sweep.argv, tick=end_without_sweep, stops=(path / STOP).exists)


@contextmanager
def _refresh_often(progress: SweepProgress) -> Iterator[None]:
    """A context that refreshes the progress in a thread, because the launcher occupies the main thread."""
    over = threading.Event()

    def refresh() -> None:
        while not over.wait(REFRESHES):
            progress.refresh()

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _delay_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """A context in which the first signal to end calls `stop` and is raised at the end; a second is raised at once.

    Yields the signals.
    """
    # At once, the first signal would let the launcher kill its workers before their jobs have saved themselves.
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        stop()
        if len(seen) > 1:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we
            before[number] = signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if seen:
        signal.raise_signal(seen[0])
