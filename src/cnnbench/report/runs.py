"""Run folders as a report sees them: found below any folder and read once. A damaged one is named and left out."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench.config.seeds import Fold, SeedName, Seeds, name_repetition, read_fold, read_seeds
from cnnbench.metrics import score_probabilities
from cnnbench.runs.calibration import read_temperature
from cnnbench.runs.checking import UNREADABLE, check_figures, is_tested
from cnnbench.runs.contents import read_predictions
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
    """One run folder. Large files (metrics, matrices, predictions) are read on demand and not kept."""

    path: Path
    name: str  # of its folder, short and unique in the study
    config: dict[str, Any] = field(default_factory=dict)  # empty if it cannot be read
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    state: str = UNKNOWN  # as in status.json, or unknown, damaged, or untested (a finished trial of a search)
    message: str = ""
    updated: str = ""
    seeds: Seeds | None = None
    fold: Fold | None = None  # the part of the training images that a run of a cross-validation was tested on
    summary: dict[str, Any] = field(default_factory=dict)  # the result; empty unless the run is finished
    settings: dict[str, Any] = field(default_factory=dict)  # what was trained, by flat keys such as `model.width`
    group: str = ""  # the label of its group
    counted: bool = False  # whether its group counts this run for its seeds
    unchecked: list[str] = field(default_factory=list)  # figures that could not be checked, and why, a phrase each
    contradiction: Contradiction | None = None  # of a damaged run whose figures contradict each other

    @property
    def seed(self) -> SeedName | None:
        """The name of its seeds and, in a cross-validation, its fold."""
        return None if self.seeds is None else name_repetition(self.seeds, self.fold)

    @property
    def given_name(self) -> str:
        """The name in its config, which several runs may share."""
        return str(self.config.get("name") or "")

    @property
    def tags(self) -> str:
        """Its tags on one line, such as `anna, second try`."""
        tags = self.config.get("tags")
        return ", ".join(map(str, tags)) if isinstance(tags, list) else ""

    @property
    def comparison(self) -> dict[str, Any]:
        """What its experiment says about the comparison: baseline, published figures and their protocol."""
        comparison = self.config.get("comparison")
        return comparison if isinstance(comparison, dict) else {}

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


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read every run in or below the folders, each once, and give it a unique short name.

    Raises:
        ValueError: as `find_all_runs`.
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

    def order_naturally(path: Path) -> tuple[bool, int, str]:
        is_number = path.name.isdecimal() and path.name.isascii() and len(path.name) < 10
        return not is_number, int(path.name) if is_number else 0, path.name

    for child in sorted(children, key=order_naturally):
        if not child.name.startswith("."):
            yield from find_runs(child, levels - 1)


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
    # Only the run's own temperature and predictions say what calibration gives.
    run.summary = {key: value for key, value in summary.items() if not key.startswith((TEMPERATURE, CALIBRATED))}
    try:
        temperature = read_temperature(run.path)
        if temperature is not None and run.has_classes:
            scores = score_probabilities(read_predictions(run.path), temperature)
            run.summary |= {TEMPERATURE: temperature, **{f"{CALIBRATED}/{name}": one for name, one in scores.items()}}
    except (ValueError, OSError) as error:
        run.unchecked.append(f"figures after calibration are left out ({error})")


def join_names(runs: Iterable[Run]) -> str:
    """The names of the first few runs, for a sentence."""
    return join_some([run.name for run in runs], 8)
