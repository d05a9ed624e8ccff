"""What the jobs of a sweep are, and where a sweep of the same jobs lies.

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
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.plain_data import read_json

JOBS, SWEEP = "jobs.json", "sweep.yaml"
NAME = "[0-9]{1,9}"  # of a job's folder


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
    """The SHA-256 of what a run's result depends on, of its config as plain data."""
    own = select(config, lambda role, _: role == "result")
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
    """The sweep directly inside a folder that was begun last, of those that were asked for the same runs.

    Where `jobs.json` cannot be read, the runs that are there say what was asked for.

    Args:
        name: looks only at that one, which may be one without any runs.
    """
    wanted, hashes = request_hash(jobs), {job.hash for job in jobs}
    found = []
    for path in sweeps_in(parent) if name is None else [parent / name]:
        try:
            asked = _request_in(path) == wanted
        except (ValueError, OSError, KeyError, TypeError):
            held = set(held_in(path))
            asked = held <= hashes and (name is not None or bool(held))
        if asked:
            found.append(path)
    return max(found, key=begun, default=None)


def seen_with_other_seeds(parent: Path, jobs: Sequence[Job]) -> Path | None:
    """The latest sweep in a folder that has results of the same configs, but lacks some of their seeds."""
    wanted = _seeds(job.config for job in jobs)
    found = []
    for path in sweeps_in(parent):
        if not (path / "results.csv").is_file():
            continue
        with contextlib.suppress(ValueError, OSError, LookupError, TypeError, AttributeError):
            theirs = _seeds(job["config"] for job in read_json(path / JOBS)["jobs"])
            if any(seeds - theirs[alike] for alike, seeds in wanted.items() if theirs.get(alike)):
                found.append(path)
    return max(found, key=begun, default=None)


def _seeds(configs: Iterable[Mapping[str, Any]]) -> dict[str, set[int]]:
    """Of configs that differ in their seeds alone, the seeds."""
    found: dict[str, set[int]] = {}
    for config in configs:
        found.setdefault(config_hash({**config, "seed": 0}), set()).add(config["seed"])
    return found


def sweeps_in(parent: Path) -> list[Path]:
    """The sweeps directly inside a folder."""
    return sorted({path.parent for file in (JOBS, SWEEP) for path in parent.glob(f"*/{file}")})


def is_sweep(path: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (path / JOBS).is_file() or (path / SWEEP).is_file()


def begun(path: Path) -> datetime:
    """When a sweep was begun, in UTC, and never before one that was begun earlier in the same folder.

    Of an earlier version's, or where `jobs.json` is damaged, when that file was written.
    """
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        said = datetime.fromisoformat(read_json(path / JOBS)["begun"])
        return said if said.tzinfo else said.replace(tzinfo=UTC)
    files = [file for name in (JOBS, SWEEP) if (file := path / name).exists()]
    return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0), UTC)


def hash_in(folder: Path) -> str | None:
    """The hash of the config in a run's folder; None where it cannot be read."""
    try:
        return config_hash(RunFolder(folder).read_config())
    except (ValueError, OSError, KeyError, AttributeError, TypeError):  # whatever a damaged file may hold
        return None


def held_in(path: Path) -> dict[str, str]:
    """The hash of each run's config in a sweep's folder, and where it lies."""
    numbered = [folder for folder in path.glob("*") if re.fullmatch(NAME, folder.name) and folder.is_dir()]
    return {digest: folder.name for folder in sorted(numbered) if (digest := hash_in(folder))}


def _request_in(path: Path) -> str:
    written = read_json(path / JOBS)
    return written["request"] if written["jobs"] else ""
