"""The folder of a sweep: where each job is stored, and which jobs are left.

`jobs.json` holds the settings of the sweep, and each job's config with its hash. If that is not the hash of the
`config.yaml` in the job's folder, the folder belongs to another job. Files in a job's place that somebody could still
need are moved to `set_aside`, never removed.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from cnnbench.config.schema import SweepConfig, from_dict
from cnnbench.runs.folder import BEFORE_CONFIG, FINISHED, WANDB, RunFolder, create_folder, is_before_checkpoint
from cnnbench.storage import atomic
from cnnbench.storage.atomic import InUse, lock_folder, remove_temporary
from cnnbench.storage.plain_data import read_json, write_json, write_yaml
from cnnbench.storage.regular import open_to_append, refuse_irregular
from cnnbench.sweeps.jobs import (
    JOBS,
    NAME,
    SweepJob,
    hash_config,
    hash_request,
    is_sweep,
    list_sweeps,
    read_begin,
    read_hash,
    read_hashes,
)

log = logging.getLogger("cnnbench")
ASIDE = "set_aside"
RECORDED = {"jobs", "until", "delta", "max_seeds"}  # settings of a sweep that its folder keeps
SUBMITIT = ".submitit"  # files of the Slurm launcher, one of which is a link; nothing else reads them
# Files that are of no use without a checkpoint.
BEFORE_A_CHECKPOINT = BEFORE_CONFIG | {"config.yaml", "metrics.csv", "data.json", "skipped.csv", "weights.json"}


def check_can_rename(path: Path) -> None:
    """Check that a sweep's folder can be renamed.

    Raises:
        ValueError: the current folder lies inside it.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise ValueError(
            "sweep.restart=true renames the folder of the earlier sweep, but the current folder lies inside "
            f"{path.resolve()}: change to another folder first, or choose another one for the sweep with "
            "hydra.sweep.dir=DIR"
        )


def rename_sweep(path: Path) -> Path:
    """Rename a sweep's folder, so that another sweep can take its name; return the new path.

    Raises:
        InUse: the sweep is running.
    """
    path = Path(os.path.abspath(path))
    with lock_folder(path):
        pass  # unlock it again: some systems cannot rename a folder in which a file is open
    number = 1
    while (other := path.with_name(f"{path.name}_before_{number}")).exists():
        number += 1
    return path.rename(other)


class SweepFolder:
    """The folder of a sweep.

    Raises:
        ValueError: its `jobs.json` is missing or damaged, or there is a symbolic link in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_sweep(path):
            raise ValueError(f"{str(path)!r} is not a sweep: it has no {JOBS}")
        refuse_irregular(path, except_in=[WANDB, SUBMITIT])
        plain = read_json(path / JOBS)
        try:
            self.jobs = [_parse_job(**job) for job in plain["jobs"]]
            self.argv = [str(text) for text in plain["command"]]
            self.settings = from_dict({"sweep": plain["settings"]}).sweep
            self._begun = str(plain["begun"])
            # Finds jobs that were added or removed, and two jobs with the same folder.
            if hash_request(self.jobs, adds_seeds=self.adds_seeds) != plain["request"] or len(
                {job.name for job in self.jobs}
            ) < len(self.jobs):
                raise ValueError("its jobs are not those of the request it records")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path / JOBS} is damaged: {why}") from None

    @property
    def adds_seeds(self) -> bool:
        """Whether seeds are added until the sweep is decided; its jobs are then those that it needs at most."""
        return self.settings.until is not None

    @classmethod
    def create(
        cls, path: Path, jobs: Sequence[SweepJob], *, argv: Sequence[str], settings: SweepConfig | None = None
    ) -> "SweepFolder":
        """Create the folder of a new sweep.

        Args:
            argv: the command; every run records it.
            settings: of the sweep as a whole; by default those of the schema.

        Raises:
            ValueError: the folder exists and holds something else.
        """
        if path.is_dir():
            remove_temporary(path)  # left by a process that was killed at this point
        path = create_folder(path)
        # A later sweep gets a later time even if the clock was set back.
        neighbours = [read_begin(other) + timedelta(microseconds=1) for other in list_sweeps(path.parent)]
        begun = max([datetime.now(UTC), *neighbours]).isoformat()
        _write_jobs(path, jobs, argv, begun, settings or SweepConfig())
        return cls(path)

    @classmethod
    def open_or_repair(
        cls, path: Path, jobs: Sequence[SweepJob], *, argv: Sequence[str], settings: SweepConfig | None = None
    ) -> "SweepFolder":
        """Open the sweep in a folder; if `jobs.json` cannot be read, write it again from the runs in the folder."""
        refuse_irregular(path, except_in=[WANDB, SUBMITIT])
        try:
            return cls(path)
        except ValueError as error:
            log.warning("%s: writing jobs.json again from the runs in the folder", error)
        known = read_hashes(path)
        free = (str(number) for number in count() if not os.path.lexists(path / str(number)))
        begun = read_begin(path)
        if (path / JOBS).exists():
            (path / JOBS).rename(_find_place_aside(path, JOBS))
        named = [replace(job, name=known.get(job.hash) or next(free)) for job in jobs]
        _write_jobs(path, named, argv, begun.isoformat(), settings or SweepConfig())
        return cls(path)

    def adopt(self, jobs: Sequence[SweepJob], *, argv: Sequence[str], settings: SweepConfig | None = None) -> None:
        """Take settings that the hash leaves out, such as a job's time limit, from a new call of the command.

        Jobs that are not in the sweep yet are added to it.
        """
        by_hash, known = {job.hash: job for job in jobs}, {job.hash for job in self.jobs}
        self.jobs = [replace(by_hash.get(job.hash, job), name=job.name) for job in self.jobs]
        first = max((int(job.name) for job in self.jobs), default=-1) + 1
        free = (str(number) for number in count(first) if not os.path.lexists(self.path / str(number)))
        self.jobs += [replace(job, name=next(free)) for job in jobs if job.hash not in known]
        self.argv, self.settings = list(argv), settings or self.settings

    def write(self) -> None:
        """Write `jobs.json`, from which other processes, such as a launcher's workers, read the jobs."""
        _write_jobs(self.path, self.jobs, self.argv, self._begun, self.settings)

    def is_finished(self, job: SweepJob) -> bool:
        """Whether the folder holds this job's result."""
        folder = self.path / job.name
        has_result = (folder / "summary.json").is_file() and self.read_state(job) == FINISHED
        return has_result and read_hash(folder) == job.hash

    def list_unfinished(self) -> list[SweepJob]:
        """The jobs that have no result yet, including failed ones."""
        return [job for job in self.jobs if not self.is_finished(job)]

    def has_diverged(self, job: SweepJob) -> bool:
        """Whether the job's loss became infinite, so that running it again would change nothing."""
        return bool(self.find_status(job).get("diverged")) and read_hash(self.path / job.name) == job.hash

    def find_status(self, job: SweepJob) -> dict[str, Any]:
        """The content of the job's `status.json`; empty if none can be read."""
        folder = self.path / job.name
        return RunFolder(folder).find_status() if folder.is_dir() else {}

    def read_state(self, job: SweepJob) -> str:
        """The state in the job's `status.json`; empty if it has none yet."""
        return str(self.find_status(job).get("state", ""))

    def count_epochs(self, job: SweepJob) -> int:
        """The number of epochs that the job's folder records."""
        folder = self.path / job.name
        return RunFolder(folder).count_epochs() if folder.is_dir() else 0

    def prepare(self, job: SweepJob) -> bool:
        """Prepare the job's folder; return whether the job can continue from a checkpoint in it.

        Files that the job cannot use are set aside. Only what its own process wrote before the first checkpoint is
        removed, except the log.

        Raises:
            InUse: another process uses the folder.
        """
        folder = self.path / job.name
        if os.path.lexists(folder) and not folder.is_dir():
            self.set_aside(job)
        folder.mkdir(exist_ok=True)
        with RunFolder(folder).lock():
            is_run = (folder / "config.yaml").is_file()
            is_own = is_run and read_hash(folder) == job.hash
            if is_own and any((folder / "checkpoints").glob("*.safetensors")):
                return True
            # Files of another job, or that no run writes before its first checkpoint, may be of use to somebody.
            if (is_own or not is_run) and is_before_checkpoint(folder, BEFORE_A_CHECKPOINT):
                _clear(folder)
                return False
        self.set_aside(job)
        folder.mkdir()
        return False

    def set_aside(self, job: SweepJob) -> None:
        """Move a job's folder, or whatever is in its place, to `set_aside`."""
        (self.path / job.name).rename(_find_place_aside(self.path, job.name))

    def list_set_aside(self) -> set[str]:
        """The files set aside so far, as paths within the sweep's folder."""
        return {f"{ASIDE}/{path.name}" for path in (self.path / ASIDE).glob("*")}

    def record_end(self, job: SweepJob, state: str, message: str) -> str:
        """Record in the job's folder how the job ended, unless its process has done so.

        Returns:
            The state in the folder: a job that had its result when its process died is finished.
        """
        folder = self.path / job.name
        run = RunFolder(folder)
        if self.is_finished(job):
            return FINISHED
        if run.find_status().get("state") == state:
            return state
        if not (folder / "config.yaml").is_file():
            write_yaml(folder / "config.yaml", job.config)
            write_yaml(folder / "overrides.yaml", job.overrides)
        run.set_status(state, message)
        with contextlib.suppress(InUse), run.lock():
            pass  # taking the lock removes files that were half written
        with open(open_to_append(run.log), "a", encoding="utf-8") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} the sweep says: {state}: {message}\n")
        return state


def _parse_job(name: str, hash: str, overrides: list[str], config: dict[str, Any]) -> SweepJob:
    """Read a job from `jobs.json`; its name is a number, so that it cannot lead out of the sweep's folder."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{name!r} is not the name of a job")
    if hash_config(config) != hash:
        raise ValueError(f"the config of job {name} does not match its hash")
    return SweepJob(name, hash, [str(text) for text in overrides], config)


def _write_jobs(path: Path, jobs: Sequence[SweepJob], argv: Sequence[str], begun: str, settings: SweepConfig) -> None:
    plain = {
        "request": hash_request(jobs, adds_seeds=settings.until is not None),
        "begun": begun,
        "command": list(argv),
        "settings": settings.model_dump(include=RECORDED),
        "jobs": [asdict(job) for job in jobs],
    }
    write_json(path / JOBS, plain)


def _find_place_aside(path: Path, name: str) -> Path:
    aside = path / ASIDE
    aside.mkdir(exist_ok=True)
    return aside / f"{name}_{datetime.now(UTC):%Y-%m-%d_%H-%M-%S_%f}"


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("train.log", atomic.LOCK):
            path.unlink()
