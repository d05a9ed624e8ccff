"""Find the run folder that a command means: resolve `latest`, and find what to resume in a folder of several runs."""

import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cnnbench.runs.folder import FINISHED, RUNNING, STUDY, RunFolder
from cnnbench.storage.text import format_path, join_some
from cnnbench.sweeps.folder import ASIDE, SweepFolder
from cnnbench.sweeps.jobs import is_sweep

LATEST, OUTPUTS = "latest", Path("outputs")
CLAIMS = OUTPUTS / "claims"
MOST_COMMANDS = 8  # listed in an error message


def find_folder(name: Path | str, *, run: bool = False, study: bool = False) -> Path:
    """Return the folder that a command names; `latest` is the run or sweep below `outputs` that was written last.

    The runs of a claim are never the latest, because its command trained dozens of them.

    Args:
        run: find a run, even if it belongs to a sweep.
        study: find a study of `cnnbench tune`; otherwise studies are skipped.

    Raises:
        ValueError: the name is `latest`, and there is no run.
    """
    if str(name) != LATEST or os.path.lexists(LATEST):
        return Path(name)
    runs = (path for path in _find_runs(OUTPUTS) if not path.is_relative_to(CLAIMS))
    found = [path for path in runs if (path.parent / STUDY).is_file() == study]
    if not found:
        what = "study" if study else "run"
        raise ValueError(f"{LATEST}: there is no {what} below {OUTPUTS}/ in the current folder; name its folder")
    last = max(found, key=_find_write_time)
    return last if run else last.parent if study else _find_sweep(last)


def find_unfinished(folder: Path) -> Path | None:
    """Return the unfinished run or sweep in a folder; None if all are finished.

    A run, a sweep and a folder without runs are returned unchanged: the error that comes of opening them says more.

    Raises:
        ValueError: several are unfinished; the message has a command for each.
    """
    if (folder / "config.yaml").is_file() or is_sweep(folder) or not folder.is_dir():
        return folder
    found = dict.fromkeys(_find_sweep(path) for path in _find_runs(folder) if not (path.parent / STUDY).is_file())
    unfinished = [path for path in found if not _is_finished(path)]
    if not found or len(unfinished) == 1:
        return unfinished[0] if unfinished else folder
    if not unfinished:
        return None
    commands = [f"cnnbench train {shlex.quote(f'resume={path}')}" for path in unfinished]
    lines = join_some(commands, MOST_COMMANDS, "\n  ")
    raise ValueError(f"{format_path(folder)} holds {len(unfinished)} unfinished runs. Resume one with:\n  {lines}")


def shorten(folder: Path) -> Path:
    """Return a folder relative to the current folder, if it lies inside it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _find_runs(folder: Path) -> Iterator[Path]:
    for inside, folders, files in os.walk(folder):
        # The config alone is not enough: MLflow keeps copies of it among its artifacts.
        if "config.yaml" in files and ("status.json" in files or "checkpoints" in folders):
            yield Path(inside)
            folders.clear()  # no run lies inside another one
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != ASIDE)


def _find_sweep(run: Path) -> Path:
    return run.parent if is_sweep(run.parent) else run


def _is_finished(path: Path) -> bool:
    if is_sweep(path):
        try:
            return not SweepFolder(path).list_unfinished()
        except ValueError:
            return False  # damaged; resuming it reports how
    return RunFolder(path).find_status().get("state") == FINISHED


def _find_write_time(run: Path) -> tuple[datetime, float]:
    """Return when the status was last written, in UTC. For a run in progress, any of its files counts."""
    status = RunFolder(run).find_status()
    modified = max((path.stat().st_mtime for path in run.glob("*.*") if path.is_file()), default=0.0)
    try:
        updated = datetime.fromisoformat(status["updated"])
    except (KeyError, ValueError, TypeError):
        return datetime.fromtimestamp(modified, UTC), modified
    updated = updated if updated.tzinfo else updated.replace(tzinfo=UTC)
    if status["state"] == RUNNING:  # the status is written at the start, and other files after each epoch
        updated = max(updated, datetime.fromtimestamp(modified, UTC))
    return updated, modified
