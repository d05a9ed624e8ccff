"""The jobs of a sweep, and how to find an earlier sweep of the same jobs.

A job is identified by the hash of its config, never by its place in the command.
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
from cnnbench.config.seeds import Seeds, drop_seeds, read_fold, read_seeds
from cnnbench.runs.folder import SWEEP, RunFolder
from cnnbench.storage.plain_data import read_json

JOBS = "jobs.json"
NAME = "[0-9]{1,9}"  # pattern for the names of job folders


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Attributes:
        name: the name of its folder inside the sweep's.
        hash: the hash of its config.
        overrides: the overrides that select it, as typed.
        config: the whole config, as plain data.
    """

    name: str
    hash: str
    overrides: list[str]
    config: dict[str, Any]


def hash_config(config: Mapping[str, Any], *, with_seeds: bool = True) -> str:
    """The SHA-256 of the keys of a plain config that change its result.

    Args:
        with_seeds: if false, configs that differ only in seeds or folds have the same hash.
    """
    own: dict[str, Any] = drop_seeds(select(config, lambda role, _: role == "result"))
    if with_seeds:
        # By value: seed=0 and seed=1 with each source set to 0 are the same run.
        own["seeds"] = read_seeds(config)
        own["fold"] = read_fold(config)
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def plan_jobs(configs: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[SweepJob]:
    """A job for each different config, in order.

    Args:
        configs: each with the overrides that select it.
    """
    jobs: dict[str, SweepJob] = {}
    for config, overrides in configs:
        digest = hash_config(config)
        jobs.setdefault(digest, SweepJob(str(len(jobs)), digest, list(overrides), dict(config)))
    return list(jobs.values())


def hash_request(jobs: Iterable[SweepJob], *, adds_seeds: bool = False) -> str:
    """A hash of the requested runs, in any order.

    Args:
        adds_seeds: the sweep adds seeds until it is decided, so that seeds are not part of the request.
    """
    hashes = {hash_config(job.config, with_seeds=False) for job in jobs} if adds_seeds else [job.hash for job in jobs]
    return hashlib.sha256("".join(["seeds are added"] * adds_seeds + sorted(hashes)).encode()).hexdigest()


def find_sweep(
    parent: Path, jobs: Sequence[SweepJob], *, name: str | None = None, adds_seeds: bool = False
) -> Path | None:
    """The latest sweep directly inside a folder that holds the same runs.

    If its `jobs.json` cannot be read, a sweep is recognized by the runs in its folder.

    Args:
        name: consider only the sweep of this name, which may have no runs yet.
        adds_seeds: as in `hash_request`.
    """
    hashes = {job.hash for job in jobs}
    same = []
    for path in list_sweeps(parent) if name is None else [parent / name]:
        try:
            plain = read_json(path / JOBS)
            is_same = bool(plain["jobs"]) and plain["request"] == hash_request(jobs, adds_seeds=adds_seeds)
        except (ValueError, OSError, KeyError, TypeError):  # a damaged file may contain anything
            known = read_hashes(path).keys()
            is_same = known <= hashes and (name is not None or bool(known))
        if is_same:
            same.append(path)
    return max(same, key=read_begin, default=None)


def find_with_other_seeds(parent: Path, jobs: Sequence[SweepJob]) -> Path | None:
    """The latest sweep in a folder that has results for the same configs but lacks some of the seeds."""
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


def _group_seeds(configs: Iterable[Mapping[str, Any]]) -> dict[str, set[Seeds]]:
    """The seeds of each config, by the hash of the config without its seeds."""
    seeds: dict[str, set[Seeds]] = {}
    for config in configs:
        seeds.setdefault(hash_config(config, with_seeds=False), set()).add(read_seeds(config))
    return seeds


def list_sweeps(parent: Path) -> list[Path]:
    """The sweeps directly inside a folder."""
    return sorted({path.parent for file in (JOBS, SWEEP) for path in parent.glob(f"*/{file}")})


def is_sweep(path: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (path / JOBS).is_file() or (path / SWEEP).is_file()


def read_begin(path: Path) -> datetime:
    """The time at which a sweep began, in UTC; if `jobs.json` is damaged, the time at which that was written."""
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        begun = datetime.fromisoformat(read_json(path / JOBS)["begun"])
        return begun if begun.tzinfo else begun.replace(tzinfo=UTC)
    files = [file for name in (JOBS, SWEEP) if (file := path / name).exists()]
    return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0), UTC)


def read_hash(folder: Path) -> str | None:
    """The hash of the config in a run's folder; None if it cannot be read."""
    try:
        return hash_config(RunFolder(folder).read_config())
    except (ValueError, OSError, KeyError, AttributeError, TypeError):  # a damaged file may contain anything
        return None


def read_hashes(path: Path) -> dict[str, str]:
    """The folder name of each run in a sweep, by the hash of its config."""
    numbered = [folder for folder in path.glob("*") if re.fullmatch(NAME, folder.name) and folder.is_dir()]
    return {digest: folder.name for folder in sorted(numbered) if (digest := read_hash(folder))}
