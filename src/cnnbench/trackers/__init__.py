"""Experiment trackers that follow a run besides its folder: `logger=tensorboard`, `logger=[mlflow,wandb]`.

To add one, register a class that takes the `TrackedRun` and its options in a file of this package, and name it in a
YAML file in `configs/logger/`. What a tracker raises is caught here: it never stops a run.
"""

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cnnbench import registry
from cnnbench.config.keys import flatten
from cnnbench.runs.folder import FAILED, FINISHED, INTERRUPTED
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.text import get_first_line

log = logging.getLogger("cnnbench")
MOST_FAILURES = 3  # in a row; a server that is down should not slow every epoch
GIVEN_UP = "no more is sent; the run folder has everything"
IDS = "trackers.json"


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it.

    Attributes:
        name: what to call it.
        config: every key of the config, such as `optimizer.lr`.
        id: the tracker's own name of the run, if it followed the run before an interruption; see `store_id`.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    id: str | None

    @property
    def pictures(self) -> list[Path]:
        """The figures of a finished run."""
        # A link could lead to a file that should not be sent.
        return [path for path in sorted(self.folder.glob("*.png")) if path.is_file() and not path.is_symlink()]

    @property
    def per_class(self) -> list[dict[str, str]]:
        """The rows of `per_class.csv`; none if the run was not tested or has no classes."""
        path = self.folder / "per_class.csv"
        return read_csv(path) if path.is_file() else []


class Tracker(Protocol):
    """The interface of a tracker, which is created with a run and its options."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Record an epoch: `epoch` and every metric by name; None if it has no value."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Record the results: the figures and tables are in the run folder, and this is `summary.json`."""

    def close(self, state: str) -> None:
        """Stop following the run, which ended in a state of `status.json`."""


class Trackers:
    """The open trackers of a run. Their failures become warnings, and epochs that did not arrive are sent again."""

    def __init__(self, trackers: Mapping[str, Tracker] | None = None) -> None:
        self._trackers = dict(trackers or {})
        self._waiting: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._trackers}  # epochs to send
        self._failures = dict.fromkeys(self._trackers, 0)  # in a row
        self._problems: dict[str, str] = {}

    def log(self, row: Mapping[str, Any]) -> None:
        """Record an epoch."""
        for name, waiting in self._waiting.items():
            waiting.append(dict(row))
            self._deliver(name)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Record the results."""
        for name in self._trackers:
            self._deliver(name, summary)

    def close(self, state: str) -> list[str]:
        """Close all trackers; return a line for each that lacks something."""
        for name, tracker in self._trackers.items():
            try:
                tracker.close(state)
            except Exception as error:
                self._problems[name] = _warn(name, error, GIVEN_UP)
        return list(self._problems.values())

    def _deliver(self, name: str, summary: Mapping[str, Any] | None = None) -> None:
        if self._failures[name] >= MOST_FAILURES:
            return
        tracker, waiting = self._trackers[name], self._waiting[name]
        try:
            # An epoch leaves the queue only once the tracker has it.
            while waiting:
                tracker.log(waiting[0])
                del waiting[0]
            if summary is not None:
                tracker.finish(summary)
        except Exception as error:
            self._failures[name] += 1
            is_last = self._failures[name] >= MOST_FAILURES or summary is not None
            consequence = GIVEN_UP if is_last else "trying again after the next epoch"
            self._problems[name] = _warn(name, error, consequence)
        else:
            self._failures[name] = 0
            self._problems.pop(name, None)


@contextmanager
def open_trackers(
    options: Mapping[str, Any], folder: Path, config: Mapping[str, Any], *, resume: bool = False, problems: list[str]
) -> Iterator[Trackers]:
    """Open the trackers of a run; one that cannot be opened is left out with a warning.

    Args:
        options: the name of each tracker → its own options.
        folder: the run folder, which also stores each tracker's name of the run.
        resume: continue the tracker's own run, if it has one.
        problems: receives a line for each tracker that lacks something in the end.
    """
    opened: dict[str, Tracker] = {}
    ids = _read_ids(folder) if resume else {}
    for name in options:
        run = TrackedRun(folder, _name_run(folder, config), flatten(config), ids.get(name))
        try:
            opened[name] = registry.build("logger", name, options=options[name] or {}, run=run)
        except Exception as error:
            problems.append(_warn(name, error, GIVEN_UP))
    trackers, state = Trackers(opened), FINISHED
    try:
        yield trackers
    except Exception as error:
        state = getattr(error, "state", FAILED)  # a pruned trial has not failed
        raise
    except BaseException:  # Ctrl-C or SIGTERM
        state = INTERRUPTED
        raise
    finally:
        problems += trackers.close(state)


def check_trackers(options: Mapping[str, Any]) -> None:
    """Check before training that the trackers can be opened.

    Args:
        options: the name of each tracker → its own options.

    Raises:
        ValueError: an unknown name or option, a value that is not accepted, or a package that is not installed.
    """
    for name, own in options.items():
        if own is not None and not isinstance(own, Mapping):
            raise ValueError(f"logger.{name}={own}: must be a group of keys, or in a command logger=NAME")
        registry.check_options("logger", name, own or {})
        package = registry.get_facts("logger", name).get("package")
        if package and importlib.util.find_spec(package) is None:
            raise ValueError(f"logger={name} needs the package {package}: pip install 'cnnbench[{name}]'")


def store_id(folder: Path, tracker: str, run_id: str) -> None:
    """Store a tracker's own name of the run, under which a resumed run continues."""
    write_json(folder / IDS, {**_read_ids(folder), tracker: run_id})


def _read_ids(folder: Path) -> dict[str, str]:
    path = folder / IDS
    plain = read_json(path) if path.is_file() else {}
    known = plain.items() if isinstance(plain, dict) else ()
    # A stranger may have written the file, and a tracker may use the name as part of a path or an address.
    return {name: value for name, value in known if isinstance(value, str) and re.fullmatch(r"\w{1,64}", value)}


def select_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an epoch or a summary: its numbers, without the number of the epoch."""
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "epoch"
    }


def _warn(tracker: str, error: BaseException, consequence: str) -> str:
    problem = f"logger {tracker} failed ({type(error).__name__}: {get_first_line(error)}): {consequence}"
    log.warning("%s", problem)
    return problem


def _name_run(folder: Path, config: Mapping[str, Any]) -> str:
    """The path below `outputs`, such as `lenet5_digits/2026-11-21_10-00-00_1a2b3c`."""
    parts = folder.resolve().parts
    name = str(config.get("name"))
    return "/".join(parts[parts.index(name) :]) if name in parts else folder.name


registry.discover(importlib.import_module(__name__))
