"""The jobs of a sweep, and how to find an earlier sweep of the same jobs.

A job is known by the hash of its config alone, never by its place in the command.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnbench.config.declared import select
from cnnbench.runs.folder import SWEEP, RunFolder
from cnnbench.storage.plain_data import read_json

JOBS = "jobs.json"
NAME = "[0-9]{1,9}"  # of a job's folder


@dataclass(frozen=True)
class SweepJob:
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


def hash_config(config: Mapping[str, Any]) -> str:
    """The SHA-256 of what a run's result depends on, of its config as plain data."""
    own = select(config, lambda role, _: role == "result")
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def plan_jobs(configs: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[SweepJob]:
    """A job for each config, in order; configs that are the same are one job.

    Args:
        configs: each with the overrides that make it.
    """
    jobs: dict[str, SweepJob] = {}
    for config, overrides in configs:
        digest = hash_config(config)
        jobs.setdefault(digest, SweepJob(str(len(jobs)), digest, list(overrides), dict(config)))
    return list(jobs.values())


def hash_request(jobs: Iterable[SweepJob]) -> str:
    """An identity that two commands share if they request the same runs in any order."""
    return hashlib.sha256("".join(sorted(job.hash for job in jobs)).encode()).hexdigest()


def find_sweep(parent: Path, jobs: Sequence[SweepJob], *, name: str | None = None) -> Path | None:
    """The latest sweep directly inside a folder that holds the same runs.

    If `jobs.json` cannot be read, the runs in the sweep's folder show what was requested.

    Args:
        name: look only at this one, which may have no runs yet.
    """
    hashes = {job.hash for job in jobs}
    same = []
    for path in list_sweeps(parent) if name is None else [parent / name]:
        try:
            plain = read_json(path / JOBS)
            is_same = bool(plain["jobs"]) and plain["request"] == hash_request(jobs)
        except (ValueError, OSError, KeyError, TypeError):
            known = read_hashes(path).keys()
            is_same = known <= hashes and (name is not None or bool(known))
        if is_same:
            same.append(path)
    return max(same, key=read_begin, default=None)


def find_with_other_seeds(parent: Path, jobs: Sequence[SweepJob]) -> Path | None:
    """The latest sweep in a folder that has results of the same configs, but lacks some of their seeds."""
    wanted = _group_seeds(job.config for job in jobs)
    similar = []
    for path in list_sweeps(parent):
        if not (path / "results.csv").is_file():
            continue
        with contextlib.suppress(ValueError, OSError, LookupError, TypeError, AttributeError):
            others = _group_seeds(job["config"] for job in read_json(path / JOBS)["jobs"])
            if any(seeds - others[digest] for digest, seeds in wanted.items() if others.get(digest)):
                similar.append(path)
    return max(similar, key=read_begin, default=None)


def _group_seeds(configs: Iterable[Mapping[str, Any]]) -> dict[str, set[int]]:
    """The seeds of configs that differ in nothing else."""
    seeds: dict[str, set[int]] = {}
    for config in configs:
        seeds.setdefault(hash_config({**config, "seed": 0}), set()).add(config["seed"])
    return seeds


def list_sweeps(parent: Path) -> list[Path]:
    """The sweeps directly inside a folder."""
    return sorted({path.parent for file in (JOBS, SWEEP) for path in parent.glob(f"*/{file}")})


def is_sweep(path: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (path / JOBS).is_file() or (path / SWEEP).is_file()


def read_begin(path: Path) -> datetime:
    """When a sweep was begun, in UTC, and never before one that was begun earlier in the same folder.

    If `jobs.json` is damaged, the time at which that file was written.
    """
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        begun = datetime.fromisoformat(read_json(path / JOBS)["begun"])
        return begun if begun.tzinfo else begun.replace(tzinfo=UTC)
    files = [file for name in (JOBS, SWEEP) if (file := path / name).exists()]
    return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0), UTC)


def read_hash(folder: Path) -> str | None:
    """The hash of the config in a run's folder; None if it cannot be read."""
    try:
        return hash_config(RunFolder(folder).read_config())
    except (ValueError, OSError, KeyError, AttributeError, TypeError):  # a damaged file may hold anything
        return None


def read_hashes(path: Path) -> dict[str, str]:
    """The hash of each run's config in a sweep's folder, and the name of its folder."""
    numbered = [folder for folder in path.glob("*") if re.fullmatch(NAME, folder.name) and folder.is_dir()]
    return {digest: folder.name for folder in sorted(numbered) if (digest := read_hash(folder))}
