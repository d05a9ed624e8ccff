"""The folder of a sweep: which job lies where, what is still to be done, and who may write there.

`jobs.json` holds every job's config and its hash. A job is known by the hash of its config alone, never by its place in
the command: if the hash in `jobs.json` is not that of the `config.yaml` in the job's folder, the folder is another's.
What lies in a job's place and is not sure to be of no use is set aside, never removed.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from cnnbench.runs.folder import BEFORE_CONFIG, FINISHED, WANDB, RunFolder, create_folder
from cnnbench.storage import atomic
from cnnbench.storage.atomic import InUse, remove_temporary
from cnnbench.storage.plain_data import read_json, write_json, write_yaml
from cnnbench.storage.regular import open_to_append, refuse_irregular
from cnnbench.sweep.jobs import JOBS, NAME, Job, begun, config_hash, hash_in, held_in, is_sweep, request_hash, sweeps_in

log = logging.getLogger("cnnbench")
ASIDE = "set_aside"
BEFORE_A_CHECKPOINT = BEFORE_CONFIG | {"config.yaml", "metrics.csv"}  # of no use without one


@contextmanager
def locked(path: Path, *, hint: str = "") -> Iterator[None]:
    """Within it, no other process runs the sweep in this folder; the system unlocks it with the end of the process.

    Args:
        hint: what else the user could do.

    Raises:
        InUse: one does.
    """
    try:
        with atomic.lock_folder(path):
            yield
    except InUse as error:
        raise InUse(f"{error}{hint}") from None


def check_renaming(path: Path) -> None:
    """See to it that a sweep's folder can be renamed.

    Raises:
        ValueError: this process is in the folder.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise ValueError(
            f"sweep.restart=true renames the earlier sweep's folder, and that is the current one, {path.resolve()}: "
            "change to another folder first, or name another one by hydra.sweep.dir=DIR"
        )


def set_aside(path: Path) -> Path:
    """Rename a sweep's folder, so that another can have its name; returns where it is now.

    Raises:
        InUse: the sweep is being run.
    """
    path = Path(os.path.abspath(path))
    with locked(path):
        pass  # unlocked again: some systems only rename a folder in which nothing is open
    number = 1
    while (other := path.with_name(f"{path.name}_before_{number}")).exists():
        number += 1
    return path.rename(other)


class SweepFolder:
    """A folder with a sweep in it.

    Raises:
        ValueError: its `jobs.json` is missing or damaged, or there is a symbolic link in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_sweep(path):
            raise ValueError(f"{str(path)!r} is not a sweep: it has no {JOBS}")
        refuse_irregular(path, except_in=[WANDB])
        written = read_json(path / JOBS)
        try:
            self.jobs = [_job(**job) for job in written["jobs"]]
            self.argv = [str(text) for text in written["command"]]
            self._begun = str(written.get("begun", begun(path).isoformat()))
            if request_hash(self.jobs) != written["request"] or len({job.name for job in self.jobs}) < len(self.jobs):
                raise ValueError("it does not hold the jobs that were asked for")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path / JOBS} is damaged: {why}") from None

    @classmethod
    def create(cls, path: Path, jobs: Sequence[Job], *, argv: Sequence[str]) -> "SweepFolder":
        """Make a new one.

        Args:
            argv: the command, which every run records as its own.

        Raises:
            ValueError: the folder exists already and holds something else.
        """
        if path.is_dir():
            remove_temporary(path)  # of a process that was killed just here
        path = create_folder(path)
        # A clock that was set back does not make it older than those beside it.
        beside = [begun(other) + timedelta(microseconds=1) for other in sweeps_in(path.parent)]
        _write_jobs(path, jobs, argv, max([datetime.now(UTC), *beside]).isoformat())
        return cls(path)

    @classmethod
    def mended(cls, path: Path, jobs: Sequence[Job], *, argv: Sequence[str]) -> "SweepFolder":
        """The sweep in a folder; a list of its jobs that cannot be read is made anew from the runs that are there."""
        refuse_irregular(path, except_in=[WANDB])
        try:
            return cls(path)
        except ValueError as error:
            log.warning("%s: made anew from the runs that are there", error)
        held = held_in(path)
        free = (str(number) for number in count() if not os.path.lexists(path / str(number)))
        when = begun(path)
        if (path / JOBS).exists():
            (path / JOBS).rename(_place_aside(path, JOBS))
        named = [replace(job, name=held.get(job.hash) or next(free)) for job in jobs]
        _write_jobs(path, named, argv, when.isoformat())
        return cls(path)

    def adopt(self, jobs: Sequence[Job], *, argv: Sequence[str]) -> None:
        """Take over from a new call of the command what the hash leaves out, such as how long a job may take."""
        asked = {job.hash: job for job in jobs}
        self.jobs = [replace(asked[job.hash], name=job.name) for job in self.jobs]
        self.argv = list(argv)

    def write(self) -> None:
        """Write its jobs down: others, such as a launcher's workers, know them from its folder alone."""
        _write_jobs(self.path, self.jobs, self.argv, self._begun)

    def finished(self, job: Job) -> bool:
        """Whether the job's result is there, and is this job's."""
        folder = self.path / job.name
        if not (folder / "summary.json").is_file():
            return False
        return RunFolder(folder).find_status().get("state") == FINISHED and _holds(folder, job)

    def unfinished(self) -> list[Job]:
        """The jobs that have no result yet, those that failed among them."""
        return [job for job in self.jobs if not self.finished(job)]

    def prepare(self, job: Job) -> bool:
        """Make the job's folder ready for it; returns whether the job can go on from a checkpoint there.

        What lies there and is of no use to the job is set aside; only what its own process wrote before the first
        checkpoint goes, but for the log.

        Raises:
            InUse: another process works there.
        """
        folder = self.path / job.name
        if os.path.lexists(folder) and not folder.is_dir():
            self.put_aside(job)
        folder.mkdir(exist_ok=True)
        with RunFolder(folder).lock():
            is_run = (folder / "config.yaml").is_file()
            own = is_run and _holds(folder, job)
            if own and any((folder / "checkpoints").glob("*.safetensors")):
                return True
            if (own or not is_run) and _is_of_no_use(folder):
                _clear(folder)
                return False
        self.put_aside(job)
        folder.mkdir()
        return False

    def put_aside(self, job: Job) -> None:
        """Move what lies in the place of a job's folder to `set_aside`."""
        folder = self.path / job.name
        folder.rename(_place_aside(self.path, job.name))

    def aside(self) -> set[str]:
        """What has been set aside so far, as paths within the sweep's folder."""
        return {f"{ASIDE}/{path.name}" for path in (self.path / ASIDE).glob("*")}

    def settle(self, job: Job, state: str, message: str) -> str:
        """See to it that the job's folder says how the job ended, whatever its process could still write.

        Returns:
            The state that it has: that of a job which was finished when its process ended is finished.
        """
        folder = self.path / job.name
        run = RunFolder(folder)
        if self.finished(job):
            return FINISHED
        if run.find_status().get("state") == state:
            return state
        if not (folder / "config.yaml").is_file():
            write_yaml(folder / "config.yaml", job.config)
            write_yaml(folder / "overrides.yaml", job.overrides)
        run.set_status(state, message)
        with contextlib.suppress(InUse), run.lock():
            pass  # which removes what was half-written
        with open(open_to_append(run.log), "a", encoding="utf-8") as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} the sweep says: {state}: {message}\n")
        return state

    def state(self, job: Job) -> str:
        """What the job's `status.json` says; empty before it has one."""
        folder = self.path / job.name
        return str(RunFolder(folder).find_status().get("state", "")) if folder.is_dir() else ""


def _job(name: str, hash: str, overrides: list[str], config: dict[str, Any]) -> Job:
    """A job as `jobs.json` has it; its name is that of a folder within the sweep's, and nothing else."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"a job is called {name!r}")
    if config_hash(config) != hash:
        raise ValueError(f"the config of job {name} is not the one that its hash was made of")
    return Job(name, hash, [str(text) for text in overrides], config)


def _write_jobs(path: Path, jobs: Sequence[Job], argv: Sequence[str], begun: str) -> None:
    written = {"request": request_hash(jobs), "begun": begun, "command": list(argv), "jobs": [asdict(j) for j in jobs]}
    write_json(path / JOBS, written)


def _place_aside(path: Path, name: str) -> Path:
    """Where something of a sweep's folder can be moved to."""
    aside = path / ASIDE
    aside.mkdir(exist_ok=True)
    return aside / f"{name}_{datetime.now(UTC):%Y-%m-%d_%H-%M-%S_%f}"


def _is_of_no_use(folder: Path) -> bool:
    """Whether a folder holds nothing but what a job writes before its first checkpoint."""
    found = {path.name for path in folder.iterdir() if not path.name.endswith(atomic.TEMPORARY)}
    checkpoints = folder / "checkpoints"
    return found <= BEFORE_A_CHECKPOINT and not (checkpoints.exists() and any(checkpoints.iterdir()))


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("train.log", atomic.LOCK):
            path.unlink()


def _holds(folder: Path, job: Job) -> bool:
    return hash_in(folder) == job.hash
