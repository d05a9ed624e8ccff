"""Hydra's launchers: jobs side by side in processes of this machine, of a cluster, or of Slurm.

Each of their workers watches over job processes of its own (`sweep.supervisor`), so that a job that is killed or hangs
breaks neither the worker nor the pool. What a worker needs to know lies in the sweep's folder.
"""

import atexit
import importlib.util
import os
import re
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
from cnnbench.processes.cores import cores
from cnnbench.processes.signals import STOPS, leave_to_parent
from cnnbench.registry import unknown
from cnnbench.runs.folder import FAILED
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.job_process import JobRoom
from cnnbench.sweep.jobs import Job
from cnnbench.sweep.progress import REFRESHES, Progress
from cnnbench.sweep.server import JobServer
from cnnbench.sweep.supervisor import Supervisor

IN_PROCESS = "basic"  # Hydra's name for one job after the other
# Each launcher's package, and the extra of cnnbench that brings it.
PACKAGES = {
    "joblib": ("hydra_joblib_launcher", "parallel"),
    "ray": ("hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}
STOP = ".stop"  # a file in the sweep's folder: workers, on whatever machine, start nothing any more


def launcher_asked(overrides: Sequence[str]) -> str:
    """The launcher that a command names; `basic` without.

    Raises:
        ValueError: there is no such launcher, or its package is not installed; the message says how to get it.
    """
    named = [text.partition("=")[2] for text in overrides if text.partition("=")[0].lstrip("+") == "hydra/launcher"]
    name = named[-1] if named else IN_PROCESS
    if name == IN_PROCESS:
        return name
    if name not in PACKAGES:
        raise ValueError(unknown("launcher", name, [IN_PROCESS, *PACKAGES]))
    package, extra = PACKAGES[name]
    if importlib.util.find_spec("hydra_plugins") is None or not importlib.util.find_spec(f"hydra_plugins.{package}"):
        raise ValueError(f"hydra/launcher={name} needs a package that is missing: pip install 'cnnbench[{extra}]'")
    return name


def jobs_at_once(name: str, launcher: DictConfig, threads: int = 1) -> int:
    """How many jobs a launcher runs side by side, as far as its config says.

    Args:
        threads: the most that one of the jobs computes with.

    Raises:
        ValueError: a number that joblib does not accept.
    """
    if name == "joblib":
        n_jobs = launcher.n_jobs
        if not isinstance(n_jobs, int) or n_jobs == 0:
            raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: accepted is a whole number from 1, or -1 for all cores")
        return n_jobs if n_jobs > 0 else max(1, (cores() + 1 + n_jobs) // threads)
    if name == "ray":
        return int(launcher.ray.init.get("num_cpus") or cores())
    return int(launcher.get("array_parallelism") or cores()) if name != IN_PROCESS else 1


def room_of(name: str, launcher: DictConfig, at_once: int = 1) -> JobRoom:
    """What each job may use: all of the machine where it is alone on it, else what the launcher gives it.

    Beside others on this machine a job computes with as many threads as if it were alone: other bits otherwise.
    """
    if name == IN_PROCESS:
        return JobRoom()
    if name == "joblib":
        return JobRoom(cores=max(1, cores() // at_once))
    given = launcher.ray.remote.get("num_cpus") if name == "ray" else launcher.get("cpus_per_task")
    threads = max(1, int(given or 1))
    return JobRoom(threads=threads, cores=threads)


@dataclass(frozen=True)
class Place:
    """Where a launcher's workers find the process that has torch and the data, and whom they end with.

    Attributes:
        host: the machine that the sweep was started on.
        address: the socket of its server.
        parent: the process of the sweep; a worker on the same machine ends with it. None where workers outlive it.
    """

    host: str
    address: str | None
    parent: int | None


def launch(
    name: str, asked: compose.Request, sweep: SweepFolder, jobs: Sequence[Job], server: JobServer, progress: Progress
) -> None:
    """Run jobs with one of Hydra's launchers; their folders say what became of them.

    Raises:
        KeyboardInterrupt, BaseException: what a signal asks for, once the jobs that ran have saved themselves.
    """
    room = server.room
    # A Slurm job is held to what it was given, and goes on when the one who submitted it has gone.
    apart = name == "submitit_slurm"
    place = Place(socket.gethostname(), None if apart else server.address, None if apart else os.getpid())
    task = partial(run_job_of_launcher, place=place, room=room)
    own = [f"hydra.launcher.n_jobs={progress.at_once}"] if name == "joblib" else []
    stop = sweep.path / STOP
    stop.unlink(missing_ok=True)
    try:
        with _shown(progress), _stopping(stop.touch) as stopped:
            left = list(jobs)
            while left:
                broken = _launch(asked, sweep, left, task, own)
                not_begun = [job for job in left if progress.sweep.state(job) == ""]
                if stopped() or not broken:
                    return
                _give_up(sweep, [job for job in left if job not in not_begun], broken)
                if len(not_begun) == len(left):
                    raise broken
                left = not_begun
    finally:
        stop.unlink(missing_ok=True)


def _launch(
    asked: compose.Request, sweep: SweepFolder, jobs: Sequence[Job], task: Callable[[DictConfig], Any], own: list[str]
) -> Exception | None:
    """Have Hydra's launcher call a task once for each job; returns what broke the launcher itself.

    Args:
        own: overrides of Hydra that win over the command's.
    """
    with compose.hydra_started():
        hydra = compose.loaded_hydra()
        said = asked.hydra.hydra.overrides.hydra
        overrides = [f"hydra.sweep.dir={_quoted(str(sweep.path))}"]
        overrides += [o for o in said if not o.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))]
        overrides += own
        config = hydra.compose_config("config", overrides, RunMode.MULTIRUN, from_shell=False)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
            task_function=task,
            config=config,
        )
        try:
            launcher.launch([[f"hydra.sweep.subdir={job.name}"] for job in jobs], 0)
        except Exception as error:
            return error
    return None


def _give_up(sweep: SweepFolder, jobs: Sequence[Job], broken: Exception) -> None:
    """Of jobs whose worker died with them, say so."""
    for job in jobs:
        if not sweep.finished(job) and sweep.state(job) != FAILED:
            sweep.settle(job, FAILED, f"its worker ended: {type(broken).__name__}")


_supervisor: Supervisor | None = None  # of this worker, which does one job after the other


def run_job_of_launcher(composed: DictConfig, *, place: Place, room: JobRoom) -> str:
    """One job, in a worker that a launcher has started; what is to be done lies in the sweep's folder.

    Returns:
        The state that the job ended in.
    """
    global _supervisor
    folder = Path(HydraConfig.get().runtime.output_dir)
    here = place.host == socket.gethostname()
    if _supervisor is None or _supervisor.sweep.path != folder.parent:
        parent = place.parent if here else None
        # The sweep says when to stop, through a file. What ends it may be sent to all that it has started.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.getppid() == parent:  # of another machine, the number would say nothing
            leave_to_parent()
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
        server = JobServer(room, address=place.address if here else None)
        atexit.register(server.close)
        sweep = SweepFolder(folder.parent)
        _supervisor = Supervisor(
            sweep, server, argv=sweep.argv, tick=partial(_end_without, parent), stops=(folder.parent / STOP).exists
        )
    job = next(job for job in _supervisor.sweep.jobs if job.name == folder.name)
    return _supervisor.run(job)


def _watch(parent: int | None) -> None:
    while True:
        _end_without(parent)
        time.sleep(REFRESHES)


def _end_without(parent: int | None) -> None:
    """End this process, if the one that it works for has ended."""
    try:
        if parent is not None and os.name != "nt":  # there, 0 is no question but Ctrl-C
            os.kill(parent, 0)
    except OSError:
        os._exit(1)


@contextmanager
def _shown(progress: Progress) -> Iterator[None]:
    """Within it, progress is looked at now and then, whatever the main thread does."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(REFRESHES):
            progress.look()

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join()


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within it, the first signal that ends a process calls `stop`, and is raised at the end; a second raises at once.

    A launcher that is interrupted kills its workers, and jobs could not save themselves.
    """
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        stop()
        if len(seen) > 1:
            raise_again(number)

    def raise_again(number: int) -> None:
        signal.signal(number, before[signal.Signals(number)])
        signal.raise_signal(number)

    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # of nohup
            before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if seen:
        signal.raise_signal(seen[0])


def _quoted(text: str) -> str:
    escaped = re.sub(r"(['\\])", r"\\\1", text)
    return f"'{escaped}'"
