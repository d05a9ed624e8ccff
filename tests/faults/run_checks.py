"""Checks of run folders for the fault tests: complete files at any time, and equality of two runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json, read_yaml
from cnnbench.training import checkpoint

TIMES = {"seconds", "images_per_second", "train_seconds"}
SAME_BYTES = ("confusion_matrix.csv", "per_class.csv", "skipped.csv")


def find_damage(folder: Path) -> list[str]:
    """The problems of files with their final names; incomplete files have hidden names, and do not count."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".yaml": read_yaml,
        ".json": read_json,
        ".csv": read_csv,
        ".npz": lambda path: read_predictions(path.parent),
        ".png": lambda path: Image.open(path).load(),
        ".safetensors": lambda path: checkpoint.load(path.parent, path.stem),
    }
    found = []
    for path in sorted(folder.rglob("[!.]*.*")):
        if path.suffix not in readers:
            continue
        try:
            if readers[path.suffix](path) in ({}, [], ""):
                found.append(f"{path.name}: empty")
        except Exception as error:
            found.append(f"{path.name}: {type(error).__name__}: {error}")
    return found


def list_temporary(folder: Path) -> list[str]:
    """The names of incomplete files."""
    return sorted(path.name for path in folder.rglob(".*.tmp"))


def find_differences(first: Path, second: Path) -> list[str]:
    """The differences of two finished runs of one config, except for times; empty if they are equal to the bit."""
    names = [sorted(str(path.relative_to(each)) for path in each.rglob("*")) for each in (first, second)]
    if names[0] != names[1]:
        return [f"files: {' '.join(sorted(set(names[0]) ^ set(names[1])))}"]
    found = []
    for path in sorted((first / "checkpoints").iterdir()):
        if not _same_checkpoint(path, second / "checkpoints" / path.name):
            found.append(path.name)
    runs = [RunFolder(path) for path in (first, second)]
    configs = [run.read_config() for run in runs]
    if configs[0] | {"data": configs[1]["data"]} != configs[1]:  # `data.root` depends on the current folder
        found.append("config.yaml")
    if runs[0].read_status()["state"] != runs[1].read_status()["state"]:
        found.append("state")
    if [_timeless(row) for row in runs[0].read_metrics()] != [_timeless(row) for row in runs[1].read_metrics()]:
        found.append("metrics.csv")
    if _timeless(runs[0].read_summary()) != _timeless(runs[1].read_summary()):
        found.append("summary.json")
    arrays = [read_predictions(path) for path in (first, second)]
    if arrays[0].keys() != arrays[1].keys() or any(not np.array_equal(arrays[0][k], arrays[1][k]) for k in arrays[0]):
        found.append("predictions.npz")
    for name in SAME_BYTES:
        if (first / name).exists() and (first / name).read_bytes() != (second / name).read_bytes():
            found.append(name)
    return found


def _same_checkpoint(path: Path, other: Path) -> bool:
    # `previous` is the last checkpoint but one, and a resumed run may have saved at other times.
    if path.stem == checkpoint.PREVIOUS:
        return not find_damage(other.parent)
    (left, one), (right, two) = (checkpoint.load(each.parent, each.stem) for each in (path, other))
    rows = [_timeless(record.pop("row") or {}) for record in (one, two)]
    one["metrics"] = two["metrics"] = None  # length and hash of a file with times
    same = left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
    return same and rows[0] == rows[1] and _timeless(one) == _timeless(two)


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}
