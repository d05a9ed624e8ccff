"""Run folders as a report sees them: found below any folder and read once. A damaged one is named and left out."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.config.seeds import Fold, SeedName, Seeds, name_repetition, read_fold, read_seeds
from cnnbench.metrics import score_probabilities
from cnnbench.runs.calibration import read_temperature
from cnnbench.runs.checking import UNREADABLE, check_figures, is_tested
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import FINISHED, SWEEP, RunFolder
from cnnbench.runs.measured import Contradiction
from cnnbench.storage.plain_data import check_kinds, is_number, read_json
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import join_some

DEEPEST = 4  # levels below a named folder that are searched for runs: outputs/<name>/<date>/<job>
TEMPERATURE, CALIBRATED = "temperature", "calibrated"  # in a summary; the second is the prefix of scores
UNKNOWN, DAMAGED, UNTESTED = "unknown", "damaged", "untested"


@dataclass
class Run:
    """One run folder. Large files (metrics, matrices, predictions) are read on demand and not kept.

    Attributes:
        name: short, and unique in the study.
        config: plain nested data; empty if it cannot be read.
        state: finished, running, failed, interrupted, pruned, unknown, untested (a finished trial of a search), or
            damaged; `message` then says why.
        fold: the part of the training images that a run of a cross-validation was tested on.
        summary: the result; empty unless the run is finished.
        settings: the flat keys of its config that say what was trained, such as `model.width`.
        group: the label of its group.
        counted: whether its group counts this run for its seeds.
        unchecked: which of its figures could not be checked, and why, a phrase each.
        contradiction: of a damaged run, the figures that contradict each other.
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    state: str = UNKNOWN
    message: str = ""
    updated: str = ""
    seeds: Seeds | None = None
    fold: Fold | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    counted: bool = False
    unchecked: list[str] = field(default_factory=list)
    contradiction: Contradiction | None = None

    @property
    def seed(self) -> SeedName | None:
        """The name of its seeds and, in a cross-validation, its fold."""
        return None if self.seeds is None else name_repetition(self.seeds, self.fold)

    @property
    def label(self) -> str:
        """The name in its config, which several runs may share."""
        return str(self.config.get("name") or "")

    @property
    def tags(self) -> str:
        """Its tags on one line, such as `anna, second try`."""
        tags = self.config.get("tags")
        return ", ".join(map(str, tags)) if isinstance(tags, list) else ""

    @property
    def has_classes(self) -> bool:
        """Whether its result is an accuracy; a run that reconstructs images has none."""
        return "test/accuracy" in self.summary

    @property
    def test_set(self) -> str:
        """A hash that finished runs share if they were tested on the same images."""
        return str(self.summary.get("test_set_sha256") or self.summary["test_labels_sha256"])

    def read_epochs(self) -> list[dict[str, Any]]:
        """The rows of `metrics.csv`, one per epoch; none if it is missing, or of an unfinished run and damaged."""
        try:
            rows = RunFolder(self.path).read_metrics() if (self.path / "metrics.csv").is_file() else []
        except (ValueError, OSError):  # `check_figures` names that of a finished run
            return []
        return [row for row in rows if is_number(row.get("epoch"))]

    def read_confusion(self) -> tuple[list[str], np.ndarray]:
        """Class names and counts, (K, K), rows true, columns predicted."""
        return read_confusion(self.path)

    def read_predictions(self) -> dict[str, np.ndarray]:
        """labels (N,), predictions (N,) and probabilities (N, K) of the test images, in dataset order."""
        return read_predictions(self.path)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read every run in or below the folders, each once, and give it a unique short name.

    Raises:
        ValueError: a folder is missing, or there is no run in it or up to four levels below.
    """
    paths = find_all_runs(folders)
    return [_read_run(path, name) for path, name in zip(paths, _shorten_names(paths), strict=True)]


def find_all_runs(folders: Sequence[Path]) -> list[Path]:
    """Find every run in or below the folders, each once.

    Raises:
        ValueError: a folder is missing, or there is no run in it or up to four levels below.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is not a folder: give folders of runs or sweeps")
        inside = list(find_runs(folder))
        if not inside and not (folder / SWEEP).is_file():  # the first job of a sweep may be about to start
            raise ValueError(f"{str(folder)!r} holds no run: there is no config.yaml in it or {DEEPEST} levels below")
        found.update(dict.fromkeys(inside))
    return list(found)


def find_runs(folder: Path, levels: int = DEEPEST) -> Iterator[Path]:
    """Find the run folders in and below a folder, jobs of a sweep by number; links below it are not followed."""
    try:
        entries = {entry.name: entry for entry in os.scandir(folder)}
        children = [Path(entry.path) for entry in entries.values() if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it has vanished, or may not be read
        return
    if "config.yaml" in entries:
        yield folder.resolve()
        return
    if SWEEP in entries:
        levels = min(levels, 1)  # its jobs; what a rerun set aside lies deeper
    if levels == 0:
        return
    for child in sorted(children, key=_order_naturally):
        if not child.name.startswith("."):
            yield from find_runs(child, levels - 1)


def _order_naturally(path: Path) -> tuple[int, int, str]:
    is_number = path.name.isdecimal() and path.name.isascii() and len(path.name) < 10
    return (0, int(path.name), path.name) if is_number else (1, 0, path.name)


def _shorten_names(paths: Sequence[Path]) -> list[str]:
    """Shorten each path to its last part, with as many parents as it and its siblings need to be unique."""
    lengths = dict.fromkeys((path.parent for path in paths), 1)
    while True:
        names = ["/".join(path.parts[-lengths[path.parent] :]) for path in paths]
        times = Counter(names)
        unclear = {path.parent for path, name in zip(paths, names, strict=True) if times[name] > 1}
        longer = {
            parent: min(length + (parent in unclear), len(parent.parts) + 1) for parent, length in lengths.items()
        }
        if longer == lengths:
            return names
        lengths = longer


def _read_run(path: Path, name: str) -> Run:
    run = Run(path, name)
    try:
        _fill_run(run, RunFolder.open_existing(path))
    except UNREADABLE as error:
        # The folder has vanished, or a file is missing or damaged. That costs this run, not the report.
        run.state, run.message = DAMAGED, " ".join(str(error).split()) or type(error).__name__
        run.contradiction = error if isinstance(error, Contradiction) else None
        run.summary = {}
    return run


def _fill_run(run: Run, folder: RunFolder) -> None:
    run.config = folder.read_config()
    status = folder.read_status()
    run.state, run.message = str(status.get("state", UNKNOWN)), str(status.get("message") or "")
    run.updated = str(status.get("updated", ""))
    try:
        run.seeds, run.fold = read_seeds(run.config), read_fold(run.config)
    except ValueError as error:
        refuse_damaged(run.path / "config.yaml", str(error))
    run.overrides = folder.read_overrides() if (run.path / "overrides.yaml").is_file() else []
    environment = run.path / "env.json"
    run.environment = check_kinds(environment, read_json(environment), {}) if environment.is_file() else {}
    if run.state != FINISHED:
        return
    summary = folder.read_summary()
    if not is_tested(folder, summary):
        run.state = UNTESTED
        return
    run.unchecked = check_figures(folder, run.config, summary)
    run.summary = summary
    _add_calibrated(run)


def _add_calibrated(run: Run) -> None:
    """Add to the summary the temperature of a calibrated run, and what its probabilities then score."""
    run.summary = {key: value for key, value in run.summary.items() if not key.startswith((TEMPERATURE, CALIBRATED))}
    try:
        temperature = read_temperature(run.path)
        if temperature is not None and run.has_classes:
            scores = score_probabilities(run.read_predictions(), temperature)
            run.summary |= {TEMPERATURE: temperature, **{f"{CALIBRATED}/{name}": one for name, one in scores.items()}}
    except (ValueError, OSError) as error:
        run.unchecked.append(f"figures after calibration are left out ({error})")


def join_names(runs: Iterable[Run], most: int = 8) -> str:
    """The names of the first few runs, for a sentence."""
    return join_some([run.name for run in runs], most)
