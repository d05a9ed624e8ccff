"""The run folder: which file holds what, written so that a reader never sees half of one.

Everything in it is plain data (YAML, JSON, CSV, npz without pickles), and this module needs no torch, so a report
can be made where torch is not installed.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnbench.runs.contents import (
    STATUS,
    SUMMARY,
)
from cnnbench.storage.atomic import LOCK, TEMPORARY, lock_folder, open_folder, remove_temporary
from cnnbench.storage.csv_tables import LARGEST_CSV, parse_csv
from cnnbench.storage.plain_data import check_kinds, read_json, read_sealed_yaml, write_json, write_yaml
from cnnbench.storage.regular import read_bytes, refuse_damaged, refuse_irregular

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
# What a run's folder holds before its config, which makes it a run's.
BEFORE_CONFIG = {LOCK, "train.log", "checkpoints", "overrides.yaml", "env.json", "status.json"}
WANDB = "wandb"  # W&B's own folder, which holds links to its logs, and in which nothing else is read or written
PRUNED = "pruned"  # stopped by a search that saw better ones


def format_resume_command(command: str, folder: Path) -> str:
    """What a shell is to be given to go on with a run, or with a study."""
    return f"cnnbench {command} {shlex.quote(f'resume={folder}')}"


def create_folder(path: Path) -> Path:
    """Make a new folder and its parents.

    Raises:
        ValueError: it exists already and holds something: two runs never share a folder.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir() or any(path.iterdir()):
            raise ValueError(f"{path} exists already and is not an empty folder") from None
    return path.resolve()


class RunFolder:
    """One run's folder.

    Args:
        path: the folder.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{str(path)!r} is not a folder")

    @classmethod
    def existing(cls, path: Path | str) -> "RunFolder":
        """A folder that holds a run.

        Raises:
            ValueError: it is missing or holds no `config.yaml`, and the message says what a run folder looks like; or
                it holds a symbolic link, a FIFO or the like.
        """
        run = cls(path)
        if not (run.path / "config.yaml").is_file():
            inner = [child.name for child in sorted(run.path.iterdir()) if (child / "config.yaml").is_file()]
            hint = f" It is a sweep: name one of its runs, such as {run.path / inner[0]}." if inner else ""
            raise ValueError(f"{str(path)!r} is not a run folder: it has no config.yaml.{hint}")
        refuse_irregular(run.path, except_in=[WANDB])
        return run

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """A new folder for a run, or one where a process was killed before there was a run to resume.

        Raises:
            ValueError: it exists already and holds something else; the message says how to go on with a run.
            OSError: it cannot be made.
        """
        if path.is_dir() and cls._begun_in_vain(path):
            return cls(path.resolve())
        if (path / "config.yaml").is_file():
            raise ValueError(
                f"{path} holds a run already: name another folder, "
                f"or resume the run with: {format_resume_command('train', path)}"
            )
        return cls(create_folder(path))

    @staticmethod
    def _begun_in_vain(path: Path) -> bool:
        found = {inner.name for inner in path.iterdir() if not inner.name.endswith(TEMPORARY)}
        checkpoints = path / "checkpoints"
        return LOCK in found and found <= BEFORE_CONFIG and not (checkpoints.is_dir() and any(checkpoints.iterdir()))

    @property
    def checkpoints(self) -> Path:
        """Where weights are kept."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """The run's log."""
        return self.path / "train.log"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Within it, no other process trains in this folder; what a killed one left half-written is removed.

        Raises:
            InUse: another process does.
        """
        with lock_folder(self.path):
            self._remove_temporary()
            try:
                yield
            finally:
                with suppress(OSError):
                    self._remove_temporary()  # a signal may have come before who made one could know of it

    def _remove_temporary(self) -> None:
        remove_temporary(self.path)
        if self.checkpoints.is_dir():
            with open_folder(self.checkpoints) as inside:
                remove_temporary(inside)

    def start(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write down what was asked; the config last, for it is what makes the folder a run's."""
        self.checkpoints.mkdir(exist_ok=True)
        write_yaml(self.path / "overrides.yaml", list(overrides))
        self.set_status(RUNNING)
        write_yaml(self.path / "config.yaml", dict(config))

    def resume(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write down that the run goes on, and what has changed since it began."""
        self.checkpoints.mkdir(exist_ok=True)
        if self.read_config() != config:
            write_yaml(self.path / "config.yaml", dict(config))
        write_yaml(self.path / "overrides.yaml", list(overrides))
        self.set_status(RUNNING)

    def read_config(self) -> dict[str, Any]:
        """The resolved config, as plain data.

        Raises:
            ValueError: `config.yaml` has changed since it was written, or is no mapping.
        """
        path = self.path / "config.yaml"
        return check_kinds(path, read_sealed_yaml(path), {})

    def read_overrides(self) -> list[str]:
        """What the user typed.

        Raises:
            ValueError: `overrides.yaml` has changed since it was written, or is no list of text.
        """
        path = self.path / "overrides.yaml"
        values = read_sealed_yaml(path)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            refuse_damaged(path, "it is no list of text")
        return values

    def set_status(self, state: str, message: str = "") -> None:
        """Say how the run stands: running, finished, failed, interrupted or pruned."""
        known = self.find_status()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = known.get("started", now)
        write_json(
            self.path / "status.json",
            {"state": state, "message": message, "started": started, "updated": now, "pid": os.getpid()},
        )

    def read_status(self) -> dict[str, Any]:
        """The last status, or an empty dict before there is one."""
        path = self.path / "status.json"
        return check_kinds(path, read_json(path), STATUS) if path.is_file() else {}

    def find_status(self) -> dict[str, Any]:
        """The last status, or an empty dict where there is none that can be read."""
        try:
            return self.read_status()
        except ValueError:
            return {}

    @property
    def metrics_file(self) -> Path:
        """The history of a run: a row an epoch, added when the epoch is saved."""
        return self.path / "metrics.csv"

    def read_metrics_file(self) -> bytes:
        """The content of `metrics.csv`; without its header, it has as many line feeds as there are finished epochs.

        Raises:
            FileNotFoundError: there is none yet.
            ValueError: it is no regular file, or too large.
        """
        return read_bytes(self.metrics_file, LARGEST_CSV)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.csv` as numbers; an empty cell is None, and a last row that is half-written left out."""
        return read_metrics(self.read_metrics_file(), self.metrics_file)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, the run's result."""
        write_json(self.path / "summary.json", summary)

    def read_summary(self) -> dict[str, Any]:
        """The run's result.

        Raises:
            ValueError: the run has none yet; the message gives its state.
        """
        path = self.path / "summary.json"
        if not path.is_file():
            state = self.read_status().get("state", "unknown")
            raise ValueError(f"{str(self.path)!r} has no summary.json: the run is not finished (its state: {state})")
        return check_kinds(path, read_json(path), SUMMARY)


def read_metrics(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.csv`, as `RunFolder.metrics` gives them.

    Raises:
        ValueError: it is no CSV file; the message names `path`.
    """
    rows = parse_csv(content[: content.rfind(b"\n") + 1], path)
    return [{key: _number(value) for key, value in row.items()} for row in rows]


def _number(text: str) -> float | int | str | None:
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
