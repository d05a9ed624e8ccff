"""Runs as a report sees them: found below any folders, read once, a damaged one named instead of a traceback."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.report.checking import OF_CLASSES, check_figures, checked
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import FINISHED, RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import check_kinds, read_json, read_yaml

DEEPEST = 4  # levels below a named folder where runs are looked for: outputs/<name>/<date>/<job>
SWEEP = "sweep.yaml"
UNKNOWN, DAMAGED, UNTESTED = "unknown", "damaged", "untested"


@dataclass
class Run:
    """One run folder. What is large (metrics, matrices, predictions) is read when asked for, and not kept.

    Attributes:
        name: short, and unique in the study.
        config: plain nested data; empty where it cannot be read.
        state: finished, running, failed, interrupted, pruned, unknown, untested (a finished trial of a search), or
            damaged: then `message` says what is.
        summary: the result; empty unless the run is finished.
        settings: the keys of its config that say what was trained, flat, such as `model.width`.
        group: the label of its group.
        counted: whether it is the one run that its group counts for this seed.
        unchecked: what of its figures could not be checked, and why, a phrase each.
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    state: str = UNKNOWN
    message: str = ""
    updated: str = ""
    seed: int | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    counted: bool = False
    unchecked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        """The folder, to read from."""
        return RunFolder(self.path)

    @property
    def label(self) -> str:
        """The name in its config, which several runs may have."""
        return str(self.config.get("name") or "")

    @property
    def tags(self) -> str:
        """Its tags in a line, such as `anna, second try`; empty where it has none."""
        tags = self.config.get("tags")
        return ", ".join(map(str, tags)) if isinstance(tags, list) else ""

    @property
    def has_classes(self) -> bool:
        """Whether its result is an accuracy; a run that reconstructs images has none."""
        return "test/accuracy" in self.summary

    @property
    def test_set(self) -> str:
        """A hash that two finished runs share which were tested on the same images; before there was one, of labels."""
        hashed = self.summary.get("test_set_sha256") or self.summary["test_labels_sha256"]
        return str(hashed)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.csv`, one an epoch; none before the first epoch has ended."""
        return self.folder.read_metrics() if (self.path / "metrics.csv").is_file() else []

    def confusion(self) -> tuple[list[str], np.ndarray]:
        """Class names and counts, (K, K), rows true, columns predicted."""
        return read_confusion(self.path)

    def per_class(self) -> list[dict[str, str]]:
        """The rows of `per_class.csv`."""
        return read_csv(self.path / "per_class.csv")

    def predictions(self) -> dict[str, np.ndarray]:
        """labels (N,), predictions (N,) and probabilities (N, K) of the test images, in dataset order."""
        return read_predictions(self.path)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run in or below the folders, each once however often it is named, with a unique short name.

    Raises:
        ValueError: a folder is missing, or nothing in it or up to four levels below is a run.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is not a folder: accepted are folders of runs or sweeps")
        inside = list(find(folder))
        if not inside and not (folder / SWEEP).is_file():  # the first job of a sweep may be about to start
            raise ValueError(f"{str(folder)!r} holds no run: there is no config.yaml in it or {DEEPEST} levels below")
        found.update(dict.fromkeys(inside))
    paths = list(found)
    return [_read(path, name) for path, name in zip(paths, _short_names(paths), strict=True)]


def find(folder: Path, levels: int = DEEPEST) -> Iterator[Path]:
    """The run folders in and below a folder, jobs of a sweep by number; links to folders are not followed below it."""
    try:
        entries = {entry.name: entry for entry in os.scandir(folder)}
        children = [Path(entry.path) for entry in entries.values() if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it has vanished, or is not ours to read
        return
    if "config.yaml" in entries:
        yield folder.resolve()
        return
    if SWEEP in entries:
        levels = min(levels, 1)  # its jobs; deeper lies what a rerun set aside
    if levels == 0:
        return
    for child in sorted(children, key=_natural):
        if not child.name.startswith("."):
            yield from find(child, levels - 1)


def _natural(path: Path) -> tuple[int, int, str]:
    digits = path.name.isdecimal() and path.name.isascii() and len(path.name) < 10
    return (0, int(path.name), path.name) if digits else (1, 0, path.name)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many of its parents as tell it and its neighbours from all others."""
    lengths = dict.fromkeys((path.parent for path in paths), 1)
    while True:
        names = ["/".join(path.parts[-lengths[path.parent] :]) for path in paths]
        several = Counter(names)
        unclear = {path.parent for path, name in zip(paths, names, strict=True) if several[name] > 1}
        longer = {
            parent: min(length + (parent in unclear), len(parent.parts) + 1) for parent, length in lengths.items()
        }
        if longer == lengths:
            return names
        lengths = longer


def unstarted(folders: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """A sentence for each sweep in or below the folders of which some jobs have no folder yet."""
    started = Counter(run.path.parent for run in runs)
    named = [folder.resolve() for folder in folders]
    notes = []
    for sweep in dict.fromkeys([*named, *started]):
        if not any(sweep.is_relative_to(folder) for folder in named):
            continue  # only some of its runs were asked for
        try:
            asked = read_yaml(sweep / SWEEP) if (sweep / SWEEP).is_file() else {}
        except (ValueError, OSError) as error:
            notes.append(f"{error}: how many jobs the sweep has is not known.")
            continue
        jobs = asked.get("jobs") if isinstance(asked, dict) else None
        if isinstance(jobs, list) and len(jobs) > started[sweep]:
            missing = len(jobs) - started[sweep]
            have = "has" if missing == 1 else "have"
            notes.append(f"{missing} of the {len(jobs)} jobs of {sweep.name} {have} not started.")
    return notes


def _read(path: Path, name: str) -> Run:
    run = Run(path, name)
    try:
        folder = RunFolder.existing(path)
        run.config = folder.read_config()
        status = folder.read_status()
        run.state, run.message = str(status.get("state", UNKNOWN)), str(status.get("message") or "")
        run.updated = str(status.get("updated", ""))
        run.seed = _seed(run.config, path)
        run.overrides = folder.read_overrides() if (path / "overrides.yaml").is_file() else []
        run.environment = _environment(path / "env.json")
        if run.state == FINISHED:
            summary = folder.read_summary()
            tested = any((path / name).is_file() for name in OF_CLASSES) or any(
                key.startswith("test") for key in summary
            )
            if tested or "best_epoch" not in summary:
                run.summary = checked(summary, path / "summary.json")
                run.unchecked = check_figures(folder, run.config, run.summary)
            else:
                run.state = UNTESTED
    except (ValueError, OSError, RecursionError, MemoryError, ArithmeticError, TypeError, LookupError) as error:
        # A folder that vanished, or a file that is missing or holds something else: one run less, not a report less.
        run.state, run.message = DAMAGED, " ".join(str(error).split()) or type(error).__name__
        run.summary = {}
    return run


def _seed(config: Mapping[str, Any], path: Path) -> int:
    seed = config.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"{path / 'config.yaml'} is damaged: seed={seed!r} is not a whole number")
    return seed


def _environment(path: Path) -> dict[str, Any]:
    """What `env.json` holds, which a report can do without."""
    return check_kinds(path, read_json(path), {}) if path.is_file() else {}


def names_of(runs: Iterable[Run], most: int = 8) -> str:
    """Their names in a sentence, the first few."""
    names = [run.name for run in runs]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
