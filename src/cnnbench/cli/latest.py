"""`latest` in place of a folder, and what is to be gone on with in a folder of several runs."""

import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cnnbench.runs.folder import FINISHED, RUNNING, RunFolder
from cnnbench.storage.text import format_path
from cnnbench.sweep.folder import ASIDE, SweepFolder
from cnnbench.sweep.jobs import is_sweep

LATEST, OUTPUTS, STUDY = "latest", Path("outputs"), "study.yaml"
MOST_NAMED = 8


def folder_named(said: Path | str, *, run: bool = False, study: bool = False) -> Path:
    """The folder that a command names: `latest` is the run, or the sweep, that was written last, below `outputs`.

    Args:
        run: a run, if need be of a sweep.
        study: a study of `cnnbench tune`; otherwise studies are passed over.

    Raises:
        ValueError: there is none.
    """
    if str(said) != LATEST or os.path.lexists(LATEST):
        return Path(said)
    found = [path for path in _runs_below(OUTPUTS) if (path.parent / STUDY).is_file() == study]
    if not found:
        what = "study" if study else "run"
        raise ValueError(f"{LATEST}: there is no {what} below {OUTPUTS}/ in the current folder: name its folder")
    last = max(found, key=_written)
    return last if run else last.parent if study else _whole(last)


def to_go_on_with(folder: Path) -> Path | None:
    """The run or sweep in a folder that is not finished; None where all are.

    A folder that holds no run is its own answer: whoever opens it says what it lacks.

    Raises:
        ValueError: several are not finished; the message has a command for each.
    """
    if (folder / "config.yaml").is_file() or is_sweep(folder) or not folder.is_dir():
        return folder
    found = dict.fromkeys(_whole(path) for path in _runs_below(folder) if not (path.parent / STUDY).is_file())
    left = [path for path in found if not _is_finished(path)]
    if not found or len(left) == 1:
        return left[0] if left else folder
    if not left:
        return None
    commands = [f"  cnnbench train {shlex.quote(f'resume={path}')}" for path in left[:MOST_NAMED]]
    more = [f"  and {len(left) - MOST_NAMED} more"] if len(left) > MOST_NAMED else []
    lines = "\n".join([*commands, *more])
    raise ValueError(f"{format_path(folder)} holds {len(left)} that are not finished. Go on with one by:\n{lines}")


def _runs_below(folder: Path) -> Iterator[Path]:
    for inside, folders, files in os.walk(folder):
        if "config.yaml" in files and ("status.json" in files or "checkpoints" in folders):  # MLflow has copies
            yield Path(inside)
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != ASIDE)


def _whole(run: Path) -> Path:
    return run.parent if is_sweep(run.parent) else run


def _is_finished(path: Path) -> bool:
    """Whether there is nothing to go on with: of what runs elsewhere, its lock says that when it is tried."""
    if is_sweep(path):
        try:
            return not SweepFolder(path).unfinished()
        except ValueError:
            return False  # which is said when it is named
    return RunFolder(path).find_status().get("state") == FINISHED


def _written(run: Path) -> tuple[datetime, float]:
    """When a run last wrote how it stands, in UTC; while it runs, when it last wrote anything."""
    status = RunFolder(run).find_status()
    written = max((path.stat().st_mtime for path in run.glob("*.*") if path.is_file()), default=0.0)
    try:
        said = datetime.fromisoformat(status["updated"])
    except (KeyError, ValueError, TypeError):
        return datetime.fromtimestamp(written, UTC), written
    said = said if said.tzinfo else said.replace(tzinfo=UTC)
    return (max(said, datetime.fromtimestamp(written, UTC)) if status["state"] == RUNNING else said), written
