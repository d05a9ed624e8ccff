"""Checks that a run's figures follow from its files, so that an edited or damaged figure is not believed.

What was measured on the test split is in `measured`. Seed, model and data come from the sealed config, the epochs from
`metrics.csv`, the sizes of the splits from `data.json`, the parameters and their bytes from the header of the weights.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.metrics import find_metric
from cnnbench.runs.folder import BEST_WEIGHTS, FINISHED, RunFolder
from cnnbench.runs.measured import OF_CLASSES, Figures
from cnnbench.storage.arrays import read_safetensors_header
from cnnbench.storage.plain_data import check_kinds, is_number, read_json
from cnnbench.storage.regular import refuse_damaged

LARGEST_FLOAT = 3.5e38  # losses are float32
SHARES = ("test/accuracy", "test/f1_macro")
# The largest value that is possible for each figure of a summary; the least is 0.
LIMITS: dict[str, float] = {
    **dict.fromkeys(("parameters", "macs", "receptive_field", "depth", "epochs", "best_epoch"), 10**15),
    **dict.fromkeys(("activation_bytes", "frozen_parameters"), 10**15),
    "dense_share": 1,
    **dict.fromkeys(("train_images", "val_images", "test_images", "train_seconds", "images_per_second"), 10**15),
    "test/loss": LARGEST_FLOAT,
    **dict.fromkeys(SHARES, 1),
}
UNTRAINED = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norms, which are no parameters
# What reading a folder may raise: its files may hold anything, and another process may remove them.
UNREADABLE = (ValueError, OSError, RecursionError, MemoryError, ArithmeticError, TypeError, LookupError)


def is_tested(folder: RunFolder, summary: Mapping[str, Any]) -> bool:
    """Whether a finished run was measured on its test split; the trials of a search are not."""
    has_files = any((folder.path / name).is_file() for name in OF_CLASSES)
    return has_files or "best_epoch" not in summary or any(key.startswith("test") for key in summary)


def find_contradiction(folder: RunFolder) -> str:
    """What is wrong with the figures of a finished run, on one line; empty if they agree with each other."""
    try:
        if folder.find_status().get("state") == FINISHED:
            summary = folder.read_summary()
            if is_tested(folder, summary):
                check_figures(folder, folder.read_config(), summary)
    except UNREADABLE as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def check_figures(folder: RunFolder, config: Mapping[str, Any], summary: dict[str, Any]) -> list[str]:
    """Compare a summary with the other files of its run; metrics that it lacks are added to it.

    Returns:
        What could not be checked, and why, a phrase each.

    Raises:
        Contradiction: two files contradict each other; the message gives both values.
        ValueError: a figure is impossible, or a file is damaged; the message names the file.
    """
    _check_limits(summary, folder.path / "summary.json")
    figures = Figures(folder.path / "summary.json", summary)
    facts = {"seed": config.get("seed")}
    facts |= {part: config[part].get("name") for part in ("model", "data") if isinstance(config.get(part), Mapping)}
    for key, value in facts.items():
        if value is not None:
            figures.expect(key, value, "config.yaml")
    figures.check_measured()
    _check_splits(folder, figures)
    _check_epochs(folder, config, figures)
    _check_parameters(folder, figures)
    return figures.unchecked


def _check_limits(summary: Mapping[str, Any], path: Path) -> None:
    for key, most in LIMITS.items():
        value = summary.get(key, 0)
        if value is None and key not in SHARES:
            continue
        if value is None or not 0 <= value <= most:
            refuse_damaged(path, f"{key}={value!r}: must be from 0 to {most:.3g}")
    shares = [key for key in SHARES if key in summary]
    # A figure that was deleted would otherwise pass, because a missing figure contradicts nothing.
    if len(shares) == 1:
        refuse_damaged(path, f"it has {shares[0]} alone; accuracy and F1 belong together")
    if not isinstance(summary.get("test_labels_sha256"), str):
        refuse_damaged(path, "test_labels_sha256 is missing")


def _check_splits(folder: RunFolder, figures: Figures) -> None:
    """Check the sizes of the splits against `data.json`, and take the hash of the test set from it if needed."""
    file = folder.path / "data.json"
    if not file.is_file():
        return
    splits = check_kinds(file, read_json(file), {"splits": dict}).get("splits", {})
    for name in ("train", "val", "test"):
        split = check_kinds(file, splits.get(name, {"images": 0}), {"images": int, "files_sha256": str})
        figures.expect(f"{name}_images", split.get("images", 0), file.name)
        if name == "test" and "files_sha256" in split:
            figures.values.setdefault("test_set_sha256", split["files_sha256"])
            figures.expect("test_set_sha256", split["files_sha256"], file.name)


def _check_epochs(folder: RunFolder, config: Mapping[str, Any], figures: Figures) -> None:
    """Check that `metrics.csv` has the epochs of the summary, in order, and that its figures are possible."""
    file = folder.metrics_file
    if not file.is_file():
        figures.unchecked.append("the epochs and times are not checked (metrics.csv is missing)")
        return
    rows = folder.read_metrics()
    for key, value in (item for row in rows for item in row.items()):
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue  # a loss may have been infinite
        is_share = key.partition("/")[2] in ("accuracy", "f1_macro")
        if not is_number(value) or abs(value) > LARGEST_FLOAT or (is_share and not 0 <= value <= 1):
            refuse_damaged(file, f"{key}={value!r} is impossible")
    if [row.get("epoch") for row in rows] != [*range(1, len(rows) + 1)]:
        refuse_damaged(file, "its epochs do not follow one after the other")
    figures.expect("epochs", len(rows), file.name)
    if best := _find_best_epoch(rows, config, figures):
        figures.expect("best_epoch", best, file.name)
    seconds = [row.get("seconds") for row in rows]
    if rows and figures.values.get("train_seconds") is not None and all(map(is_number, seconds)):
        _check_times(round(sum(map(float, seconds)), 3), len(rows), figures)  # type: ignore[arg-type]


def _find_best_epoch(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], figures: Figures) -> int | None:
    """The epoch whose weights were tested; None if the rows do not say which."""
    trainer = config.get("trainer")
    monitor = trainer.get("monitor") if isinstance(trainer, Mapping) else None
    monitor = monitor or ("val/accuracy" if "test/accuracy" in figures.values else "val/loss")
    values = [row.get(str(monitor)) for row in rows]
    if not rows or all(value is None for value in values):
        return len(rows) or None
    if not all(map(is_number, values)):
        return None
    sign = 1 if find_metric(str(monitor)).higher_is_better else -1
    return 1 + int(np.argmax(sign * np.array(values, dtype=float)))


def _check_times(seconds: float, epochs: int, figures: Figures) -> None:
    # Both sums are rounded to thousandths.
    if abs(figures.values["train_seconds"] - seconds) > 0.0011:
        figures.contradict("train_seconds", seconds, "metrics.csv")
    rate, images = figures.values.get("images_per_second"), figures.values.get("train_images")
    if not seconds or not images or rate is None:
        return
    expected = epochs * images / seconds
    if abs(rate - expected) > 0.1 + 0.001 * rate / seconds:  # seconds are rounded to thousandths
        figures.contradict("images_per_second", round(expected, 1), "metrics.csv")


def _check_parameters(folder: RunFolder, figures: Figures) -> None:
    """Check the parameters and their bytes against the weights, of which only the file's header is read."""
    if (parameters := figures.values.get("parameters")) is None:
        return
    frozen = figures.values.get("frozen_parameters") or 0
    figures.expect("trainable_parameters", parameters - frozen, "its parameters")
    try:
        header = read_safetensors_header(folder.path / BEST_WEIGHTS)
        model = {name: one for name, one in header.items() if name.startswith("model.")}
        trained = [one for name, one in model.items() if not name.endswith(UNTRAINED)]
        found = sum(math.prod(one["shape"]) for one in trained)
        size = sum(one["data_offsets"][1] - one["data_offsets"][0] for one in trained)
        problem = "" if model else "damaged"
    except FileNotFoundError:
        problem = "missing"
    except (ValueError, LookupError, TypeError):
        problem = "damaged"  # `evaluate` and `predict` say how
    if problem:
        figures.unchecked.append(f"the parameters are not checked ({BEST_WEIGHTS} is {problem})")
    else:
        figures.expect("parameters", found, "the weights")
        figures.expect("weight_bytes", size, "the weights")
