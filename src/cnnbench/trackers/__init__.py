"""Where a run goes besides its folder: `logger=tensorboard`, `mlflow`, `wandb`, or several, `logger=[mlflow,wandb]`.

A tracker is one file here and one YAML file in `configs/logger/`, whose single key is its name and holds its options.
"""

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cnnbench import registry
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json, write_json

log = logging.getLogger("cnnbench")
GIVES_UP = 3  # failures in a row
GONE = "no more is sent, the run folder has everything"
IDS = "trackers.json"
PICTURES = ("curves.png", "confusion_matrix.png", "mistakes.png", "reconstructions.png")


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker sees it.

    Attributes:
        name: what to call it.
        config: every key of the config, such as `optimizer.lr`.
        id: what the tracker called it when it began, if it was interrupted since; see `remember`.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    id: str | None

    @property
    def pictures(self) -> list[Path]:
        """The figures of a finished run."""
        return [path for name in PICTURES if (path := self.folder / name).is_file()]

    @property
    def per_class(self) -> list[dict[str, str]]:
        """The rows of `per_class.csv`; none where the run was not tested or has no classes."""
        path = self.folder / "per_class.csv"
        return read_csv(path) if path.is_file() else []


class Tracker(Protocol):
    """One place that a run goes to."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One epoch: `epoch` and every metric by name; None where there is no value."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run has finished: its figures and tables lie in its folder, and this is `summary.json`."""

    def close(self, state: str) -> None:
        """Nothing more will come; how the run ended, as in `status.json`."""


def check_trackers(options: Mapping[str, Any]) -> None:
    """Find out whether `trackers` could open them.

    Args:
        options: the name of each tracker → its own options.

    Raises:
        ValueError: an unknown name or option, a value that is not accepted, or a package that is not installed.
    """
    for name in options:
        _build(name, options)


def require(package: str) -> None:
    """Look for a tracker's package.

    Raises:
        ValueError: it is not installed; the message has the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"logger={package} needs the package {package}: pip install 'cnnbench[{package}]'")


@dataclass
class _Guarded:
    """A tracker whose failures do not reach the run: they are warned of, and what was not delivered is sent again."""

    name: str
    tracker: Tracker
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    failures: int = 0
    problem: str = ""  # why something that it should have has not reached it

    def deliver(self, summary: Mapping[str, Any] | None = None) -> None:
        """Send the rows that wait and, at the end, the summary."""
        if self.failures >= GIVES_UP:
            return
        try:
            while self.rows:
                self.tracker.log(self.rows[0])
                del self.rows[0]
            if summary is not None:
                self.tracker.finish(summary)
            self.failures, self.problem = 0, ""
        except Exception as error:
            self.failures += 1
            last = self.failures >= GIVES_UP or summary is not None
            self.problem = warn(self.name, error, GONE if last else "it is tried again after the next epoch")

    def close(self, state: str) -> None:
        try:
            self.tracker.close(state)
        except Exception as error:
            self.problem = warn(self.name, error, GONE)


class Trackers:
    """All trackers of a run."""

    def __init__(self, guarded: list[_Guarded]) -> None:
        self._guarded = guarded

    def log(self, row: Mapping[str, Any]) -> None:
        """One epoch."""
        for one in self._guarded:
            one.rows.append(dict(row))
            one.deliver()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run has finished."""
        for one in self._guarded:
            one.deliver(summary)

    def close(self, state: str) -> None:
        """Nothing more will come."""
        for one in self._guarded:
            one.close(state)

    @property
    def problems(self) -> list[str]:
        """What has not reached a tracker, and why."""
        return [one.problem for one in self._guarded if one.problem]


@contextmanager
def trackers(
    options: Mapping[str, Any],
    folder: Path,
    config: Mapping[str, Any],
    *,
    resume: bool = False,
    problems: list[str] | None = None,
) -> Iterator[Trackers]:
    """The trackers of a run, open within; one that cannot be opened is warned of and left out.

    Args:
        options: as for `check_trackers`.
        folder: the run's, which keeps what each tracker calls the run.
        config: the run's, as plain data.
        resume: go on with the tracker's run of before, where it keeps runs.
        problems: gets a line for each tracker that lacks something in the end.
    """
    opened = []
    problems = [] if problems is None else problems
    known = _ids(folder) if resume else {}
    for name in options:
        run = Tracked(folder, _name(folder, config), flat(config), known.get(name))
        try:
            opened.append(_Guarded(name, _build(name, options)(run)))
        except Exception as error:
            problems.append(warn(name, error, GONE))
    all_of_them, state = Trackers(opened), FINISHED
    try:
        yield all_of_them
    except Exception as error:
        state = getattr(error, "state", FAILED)  # a pruned run has not failed
        raise
    except BaseException:
        state = INTERRUPTED
        raise
    finally:
        all_of_them.close(state)
        problems += all_of_them.problems


def remember(folder: Path, tracker: str, run_id: str) -> None:
    """Keep what a tracker calls the run, so that a resumed run goes on there."""
    write_json(folder / IDS, {**_ids(folder), tracker: run_id})


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as `section.key`."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row or a summary: what is a number, and not what numbers the row."""
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "epoch"
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as a table in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def warn(tracker: str, error: BaseException, then: str) -> str:
    """Say loudly that a tracker failed; returns what was said."""
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    said = f"logger {tracker} failed ({type(error).__name__}: {reason}): {then}"
    log.warning("%s", said)
    return said


def _build(name: str, options: Mapping[str, Any]) -> Any:
    """A function from a `Tracked` to its open `Tracker`; packages and options are checked by now."""
    own = options[name]
    if own is not None and not isinstance(own, Mapping):
        raise ValueError(f"logger.{name}={own}: accepted is a group of keys, or in a command logger=NAME")
    return registry.build("logger", name, options=own or {})


def _ids(folder: Path) -> dict[str, str]:
    """What trackers call the run: letters and digits only, for the file may be a stranger's."""
    path = folder / IDS
    plain = read_json(path) if path.is_file() else {}
    known = plain.items() if isinstance(plain, dict) else ()
    return {name: value for name, value in known if isinstance(value, str) and re.fullmatch(r"\w{1,64}", value)}


def _name(folder: Path, config: Mapping[str, Any]) -> str:
    """The run's folder from its experiment's on, such as `lenet5_digits/2026-11-21_10-00-00_1a2b3c`."""
    parts = folder.resolve().parts
    name = str(config.get("name"))
    return "/".join(parts[parts.index(name) :]) if name in parts else folder.name


registry.discover(importlib.import_module(__name__))
