"""The folder of a sweep: which job lies where, what is still to be done, and who may write there.

`jobs.json` holds every job's config and its hash. A job is known by the hash of its config alone, never by its place in
the command: if the hash in `jobs.json` is not that of the `config.yaml` in the job's folder, the folder is another's.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnbench import results, whole_files
from cnnbench.regular_files import refuse_links
from cnnbench.results import FINISHED, WANDB, RunFolder
from cnnbench.whole_files import InUse, remove_temporary

JOBS = "jobs.json"
ASIDE = "set_aside"
# What a command says beside what a run is: these may change between two calls that are the same sweep.
BESIDE = ("sweep", "resume", "preview", "comparison")
BESIDE_IN = {
    "trainer": ("timeout_minutes", "checkpoint_minutes", "keep"),
    "data": ("root", "download", "workers", "memory_limit", "cache"),
}


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: its folder within the sweep's.
        hash: of its config.
        overrides: what makes it, in the command's words.
        config: all of it, as plain data.
    """

    name: str
    hash: str
    overrides: list[str]
    config: dict[str, Any]


def config_hash(config: Mapping[str, Any]) -> str:
    """The SHA-256 of what a run is: its config as plain data, without what does not change its result."""
    own = {key: value for key, value in config.items() if key not in BESIDE}
    for section, beside in BESIDE_IN.items():
        own[section] = {key: value for key, value in own[section].items() if key not in beside}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def plan(configs: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[Job]:
    """A job for each config, in order; configs that are the same are one job.

    Args:
        configs: each with the overrides that make it.
    """
    jobs: dict[str, Job] = {}
    for config, overrides in configs:
        digest = config_hash(config)
        jobs.setdefault(digest, Job(str(len(jobs)), digest, list(overrides), dict(config)))
    return list(jobs.values())


def request_hash(jobs: Iterable[Job]) -> str:
    """What two commands share that ask for the same runs, in whatever order."""
    return hashlib.sha256("".join(sorted(job.hash for job in jobs)).encode()).hexdigest()


def find(parent: Path, jobs: Sequence[Job], *, name: str | None = None) -> Path | None:
    """The latest sweep directly inside a folder that was asked for the same runs.

    Args:
        name: looks only at that one.
    """
    wanted = request_hash(jobs)
    places = parent.glob(f"*/{JOBS}") if name is None else [parent / name / JOBS]
    found = [path.parent for path in places if _asked_in(path.parent) == wanted]
    return max(found, key=lambda path: path.name, default=None)


def is_sweep(path: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (path / JOBS).is_file()


def set_aside(path: Path) -> Path:
    """Rename a sweep's folder, so that another can have its name; returns where it is now.

    Raises:
        InUse: the sweep is being run.
    """
    with locked(path):
        pass  # unlocked again: some systems only rename a folder in which nothing is open
    number = 1
    while (other := path.with_name(f"{path.name}_before_{number}")).exists():
        number += 1
    return path.rename(other)


@contextmanager
def locked(path: Path, *, hint: str = "") -> Iterator[None]:
    """Within it, no other process runs the sweep in this folder; the system unlocks it with the end of the process.

    Args:
        hint: what else the user could do.

    Raises:
        InUse: one does.
    """
    try:
        with whole_files.locked(path):
            yield
    except InUse as error:
        raise InUse(f"{error}{hint}") from None


class SweepFolder:
    """A folder with a sweep in it.

    Raises:
        ValueError: its `jobs.json` is missing or damaged, or there is a symbolic link in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_sweep(path):
            raise ValueError(f"{str(path)!r} is not a sweep: it has no {JOBS}")
        refuse_links(path, except_in=[WANDB])
        written = results.read_json(path / JOBS)
        try:
            self.jobs = [_job(**job) for job in written["jobs"]]
            self.argv = [str(text) for text in written["command"]]
            if request_hash(self.jobs) != written["request"] or len({job.name for job in self.jobs}) < len(self.jobs):
                raise ValueError("it does not hold the jobs that were asked for")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path / JOBS} is damaged: {why}. sweep.restart=true starts afresh") from None

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
        path = results.create_folder(path)
        _write_jobs(path, jobs, argv)
        return cls(path)

    def adopt(self, jobs: Sequence[Job], *, argv: Sequence[str]) -> None:
        """Take over from a new call of the command what the hash leaves out, such as how long a job may take."""
        asked = {job.hash: job for job in jobs}
        self.jobs = [replace(asked[job.hash], name=job.name) for job in self.jobs]
        self.argv = list(argv)
        _write_jobs(self.path, self.jobs, argv)

    def finished(self, job: Job) -> bool:
        """Whether the job's result is there, and is this job's."""
        folder = self.path / job.name
        if not (folder / "summary.json").is_file():
            return False
        return RunFolder(folder).status().get("state") == FINISHED and self._holds(folder, job)

    def unfinished(self) -> list[Job]:
        """The jobs that have no result yet, those that failed among them."""
        return [job for job in self.jobs if not self.finished(job)]

    def prepare(self, job: Job) -> bool:
        """Make the job's folder ready for it; returns whether the job can go on from a checkpoint there.

        What another config left there is set aside; what this one left without a checkpoint goes, but for its log.

        Raises:
            InUse: another process works there.
        """
        folder = self.path / job.name
        folder.mkdir(exist_ok=True)
        begun = (folder / "config.yaml").is_file()
        own = begun and self._holds(folder, job)
        with RunFolder(folder).locked():
            if own and any((folder / "checkpoints").glob("*.safetensors")):
                return True
            if own or not begun:
                _clear(folder)
                return False
        aside = self.path / ASIDE
        aside.mkdir(exist_ok=True)
        folder.rename(aside / f"{job.name}_{datetime.now(UTC):%Y-%m-%d_%H-%M-%S_%f}")
        folder.mkdir()
        return False

    def settle(self, job: Job, state: str, message: str) -> str:
        """See to it that the job's folder says how the job ended, whatever its process could still write.

        Returns:
            The state that it has: that of a job which was finished when its process ended is finished.
        """
        folder = self.path / job.name
        run = RunFolder(folder)
        known = _status(run)
        if known.get("state") in (state, FINISHED):
            return str(known["state"])
        if not (folder / "config.yaml").is_file():
            results.write_yaml(folder / "config.yaml", job.config)
            results.write_yaml(folder / "overrides.yaml", job.overrides)
        run.set_status(state, message)
        with contextlib.suppress(InUse), run.locked():
            pass  # which removes what was half-written
        with open(run.log, "a", encoding="utf-8") as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} the sweep says: {state}: {message}\n")
        return state

    def state(self, job: Job) -> str:
        """What the job's `status.json` says; empty before it has one."""
        folder = self.path / job.name
        return str(_status(RunFolder(folder)).get("state", "")) if folder.is_dir() else ""

    def _holds(self, folder: Path, job: Job) -> bool:
        try:
            return config_hash(RunFolder(folder).config()) == job.hash
        except (ValueError, OSError, KeyError, AttributeError, TypeError):  # whatever a damaged file may hold
            return False


def _job(name: str, hash: str, overrides: list[str], config: dict[str, Any]) -> Job:
    """A job as `jobs.json` has it; its name is that of a folder within the sweep's, and nothing else."""
    if not re.fullmatch("[0-9]{1,9}", name):
        raise ValueError(f"a job is called {name!r}")
    if config_hash(config) != hash:
        raise ValueError(f"the config of job {name} is not the one that its hash was made of")
    return Job(name, hash, [str(text) for text in overrides], config)


def _write_jobs(path: Path, jobs: Sequence[Job], argv: Sequence[str]) -> None:
    written = {"request": request_hash(jobs), "command": list(argv), "jobs": [asdict(job) for job in jobs]}
    results.write_json(path / JOBS, written)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("train.log", whole_files.LOCK):
            path.unlink()


def _status(run: RunFolder) -> dict[str, Any]:
    try:
        return run.status()
    except ValueError:
        return {}


def _asked_in(path: Path) -> str | None:
    try:
        return results.read_json(path / JOBS)["request"]
    except (ValueError, OSError, KeyError, TypeError):
        return None
