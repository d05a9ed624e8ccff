"""The run folder: which file holds what.

Every file is plain data (YAML, JSON, CSV, npz without pickles) and complete at any time.
"""

# No import of torch here: a report can be made where torch is not installed.

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnbench.processes.cores import MOST_THREADS
from cnnbench.storage.atomic import LOCK, TEMPORARY, lock_folder, open_folder, remove_temporary
from cnnbench.storage.csv_tables import LARGEST_CSV, parse_csv
from cnnbench.storage.plain_data import check_kinds, read_json, read_sealed_yaml, write_json, write_yaml
from cnnbench.storage.regular import read_bytes, refuse_damaged, refuse_irregular
from cnnbench.storage.text import format_path

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
PRUNED = "pruned"  # stopped by a search, in favour of better runs
# The files of a folder before it has a config.yaml, which makes it a run folder.
BEFORE_CONFIG = {LOCK, "train.log", "checkpoints", "overrides.yaml", "env.json", "status.json"}
SWEEP, STUDY = "sweep.yaml", "study.yaml"  # the files that make a folder of runs a sweep, or a search
BEST_WEIGHTS = "checkpoints/best.safetensors"  # the weights that are tested, and that later commands load
WANDB = "wandb"  # W&B's own folder: it holds links to its logs, and nothing else reads or writes there

Kinds = dict[str, type | tuple[type, ...]]
STATUS: Kinds = dict.fromkeys(("state", "message", "started", "updated"), str)
_COUNT, _NUMBER = (int, type(None)), (float, int, type(None))
SUMMARY: Kinds = {
    **dict.fromkeys(("model", "data", "task", "device"), str),
    **dict.fromkeys(("test_labels_sha256", "test_set_sha256", "train_set_sha256"), str),
    **dict.fromkeys(("seed", "parameters", "macs", "receptive_field", "depth", "epochs", "best_epoch"), _COUNT),
    **dict.fromkeys(("train_images", "val_images", "test_images", "threads"), _COUNT),
    **dict.fromkeys(("trainable_parameters", "frozen_parameters", "weight_bytes", "activation_bytes"), _COUNT),
    **dict.fromkeys(("test_images_in_training", "test_images_near_training"), _COUNT),
    **dict.fromkeys(("test/loss", "test/accuracy", "test/accuracy_low", "test/accuracy_high"), _NUMBER),
    **dict.fromkeys(("test/f1_macro", "train_seconds", "images_per_second", "dense_share"), _NUMBER),
}


def format_resume_command(command: str, folder: Path) -> str:
    """The shell command that resumes a run (`train`) or a study (`tune`)."""
    return f"cnnbench {command} {shlex.quote(f'resume={folder}')}"


def create_folder(path: Path) -> Path:
    """Make a new folder and its parents; an empty one is accepted.

    Raises:
        ValueError: it exists and is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()  # of two runs that start at once, one fails here: they never share a folder
    except FileExistsError:
        if not path.is_dir() or any(path.iterdir()):
            raise ValueError(f"{path} exists already and is not an empty folder") from None
    return path.resolve()


def refuse_other_content(out: Path, own: str = "") -> None:
    """Check that a result may be written to a folder.

    Args:
        own: the name of a file by which an earlier result, which may be replaced, is known.

    Raises:
        ValueError: it is not a folder, or holds something else.
    """
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (own and (out / own).is_file()))):
        raise ValueError(f"--out {format_path(out)} holds other files: must be a new or an empty folder")


@contextmanager
def refuse_unwritable(out: Path, remedy: str = "--out DIR names another folder for the result") -> Iterator[None]:
    """A context in which a file that cannot be written is a ValueError that says how to name another place."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{format_path(out)} cannot be written ({error.strerror}): {remedy}") from None


def is_before_checkpoint(path: Path, files: Set[str]) -> bool:
    """Whether a run's folder holds no other files than these, and no checkpoint."""
    found = {inner.name for inner in path.iterdir() if not inner.name.endswith(TEMPORARY)}
    checkpoints = path / "checkpoints"
    return found <= files and not (checkpoints.exists() and any(checkpoints.iterdir()))


class RunFolder:
    """One run's folder.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{str(path)!r} is not a folder")
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "train.log"
        self.metrics_file = self.path / "metrics.csv"  # a row an epoch, appended when the epoch is saved

    @classmethod
    def open_existing(cls, path: Path | str) -> "RunFolder":
        """A folder that holds a run.

        Raises:
            ValueError: there is no `config.yaml`, or a symbolic link, a FIFO or the like is in the folder.
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
        """A new folder for a run, or one whose process was killed before there was a run to resume.

        Raises:
            ValueError: it exists and holds something else; the message names the command that resumes a run.
        """
        # A killed run leaves its lock file. Without one, the files are someone else's.
        if (path / LOCK).exists() and is_before_checkpoint(path, BEFORE_CONFIG):
            return cls(path.resolve())
        if (path / "config.yaml").is_file():
            raise ValueError(
                f"{path} already holds a run: name another folder, or resume it: {format_resume_command('train', path)}"
            )
        return cls(create_folder(path))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder, and remove the incomplete files of killed ones.

        Raises:
            InUse: another process trains here.
        """
        with lock_folder(self.path):
            self._remove_temporary()
            try:
                yield
            finally:
                with suppress(OSError):
                    # A signal may have come before the writer of a temporary file knew its name.
                    self._remove_temporary()

    def _remove_temporary(self) -> None:
        remove_temporary(self.path)
        if self.checkpoints.is_dir():
            with open_folder(self.checkpoints) as inside:
                remove_temporary(inside)

    def start(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write the config and overrides of a new run."""
        self.checkpoints.mkdir(exist_ok=True)
        write_yaml(self.path / "overrides.yaml", list(overrides))
        self.set_status(RUNNING)
        # Last, because it makes the folder a run folder.
        write_yaml(self.path / "config.yaml", dict(config))

    def resume(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Record that the run is resumed, with its changed config and overrides."""
        self.checkpoints.mkdir(exist_ok=True)
        if self.read_config() != config:
            write_yaml(self.path / "config.yaml", dict(config))
        write_yaml(self.path / "overrides.yaml", list(overrides))
        self.set_status(RUNNING)

    def read_config(self) -> dict[str, Any]:
        """The resolved config, as plain data.

        Raises:
            ValueError: `config.yaml` has changed since it was written, or is not a mapping.
        """
        path = self.path / "config.yaml"
        return _use_current_names(check_kinds(path, read_sealed_yaml(path), {}))

    def read_overrides(self) -> list[str]:
        """The overrides that the user typed.

        Raises:
            ValueError: `overrides.yaml` has changed since it was written, or is not a list of text.
        """
        path = self.path / "overrides.yaml"
        values = read_sealed_yaml(path)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            refuse_damaged(path, "it is not a list of text")
        return values

    def set_status(self, state: str, message: str = "", *, diverged: bool = False) -> None:
        """Record the run's state: running, finished, failed, interrupted or pruned.

        Args:
            diverged: it failed because a loss or a weight became infinite, which another attempt would repeat.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = self.find_status().get("started", now)
        status = {"state": state, "message": message, "started": started, "updated": now, "pid": os.getpid()}
        write_json(self.path / "status.json", status | ({"diverged": True} if diverged else {}))

    def read_status(self) -> dict[str, Any]:
        """The last status, or an empty dict before the first."""
        path = self.path / "status.json"
        return check_kinds(path, read_json(path), STATUS) if path.is_file() else {}

    def find_status(self) -> dict[str, Any]:
        """The last status, or an empty dict if none can be read."""
        try:
            return self.read_status()
        except ValueError:
            return {}

    def read_environment(self) -> dict[str, Any]:
        """What `env.json` records; empty if it is missing or damaged."""
        try:
            found = read_json(self.path / "env.json")
        except (ValueError, OSError):
            return {}
        return found if isinstance(found, dict) else {}

    def read_threads(self) -> int | None:
        """The number of threads of the run, on which the last bits of its results depend; None if unknown."""
        threads = self.read_environment().get("torch_threads")
        return threads if type(threads) is int and 1 <= threads <= MOST_THREADS else None

    def read_metrics_file(self) -> bytes:
        """The content of `metrics.csv`; after its header, it has one line feed an epoch.

        Raises:
            FileNotFoundError: there is none yet.
            ValueError: not a regular file, or too large.
        """
        return read_bytes(self.metrics_file, LARGEST_CSV)

    def count_epochs(self) -> int:
        """How many epochs `metrics.csv` holds; 0 if it cannot be read."""
        with suppress(OSError, ValueError):
            return max(0, self.read_metrics_file().count(b"\n") - 1)
        return 0

    def read_metrics(self) -> list[dict[str, Any]]:
        """The complete rows of `metrics.csv` as numbers; an empty cell is None."""
        return parse_metrics(self.read_metrics_file(), self.metrics_file)

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


def _use_current_names(config: dict[str, Any]) -> dict[str, Any]:
    """Rename `data.split_seed`, as earlier versions called `data.test_seed`."""
    data = config.get("data")
    if not isinstance(data, dict) or "split_seed" not in data:
        return config
    return {**config, "data": {"test_seed" if key == "split_seed" else key: value for key, value in data.items()}}


def parse_metrics(content: bytes, path: Path) -> list[dict[str, Any]]:
    """What `RunFolder.read_metrics` returns, from the content of the file `path`.

    Raises:
        ValueError: not a CSV file.
    """
    # A process that is killed, or a full disk, may leave a part of the last row.
    rows = parse_csv(content[: content.rfind(b"\n") + 1], path)
    return [{key: _parse_number(value) for key, value in row.items()} for row in rows]


def _parse_number(text: str) -> float | int | str | None:
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
