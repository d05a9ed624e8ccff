"""Whether a run's figures follow from what lies beside them, so that an edited or damaged one is not believed.

`predictions.npz` is what was measured. From it follow accuracy, every other metric, the scores of each class, the
confusion matrix, the loss (by the probabilities), the number of test images and the hash of their labels. Seed, model
and data stand in the sealed config, the epochs in `metrics.csv`, the parameters in the header of the weights.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.metrics import confusion_of, per_class, scores
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.arrays import read_npz
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import check_kinds, read_json

COUNTS = (
    *("parameters", "macs", "receptive_field", "depth", "epochs", "best_epoch"),
    *("train_images", "val_images", "test_images"),
)
SCORES = ("precision", "recall", "f1", "support")
AMOUNTS = ("train_seconds", "images_per_second", "test/loss")
MOST = 10**15  # of anything that is counted or timed
LARGEST_FLOAT = 3.5e38  # losses are float32
LARGEST_HEADER = 2**24
OF_CLASSES = ("predictions.npz", "confusion_matrix.csv")
UNTRAINED = ("running_mean", "running_var", "num_batches_tracked")  # what weights hold besides parameters
EXACT = 1e-9  # figures are written with all their digits
LEAST_SHOWN = 1e-37  # a probability below this has lost digits, or is 0


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False


def checked(summary: dict[str, Any], path: Path) -> dict[str, Any]:
    """A summary whose figures are numbers that can be, where there are any.

    Raises:
        ValueError: a count that is none, a figure that is no finite number, or a share outside 0 to 1.
    """
    for key in (*AMOUNTS, *COUNTS):
        value = summary.get(key)
        if value is None:
            continue
        if not is_number(value):
            raise ValueError(f"{path} is damaged: {key}={value!r} is not a number")
        if key in COUNTS and (not isinstance(value, int) or not 0 <= value <= MOST):
            raise ValueError(f"{path} is damaged: {key}={value!r} is not a whole number from 0 to {MOST:.0e}")
        if not 0 <= value <= (LARGEST_FLOAT if key == "test/loss" else MOST):
            raise ValueError(f"{path} is damaged: {key}={value!r} is impossible")
    shares = [key for key in ("test/accuracy", "test/f1_macro") if key in summary]
    for key in shares:
        if not is_number(summary[key]) or not 0 <= summary[key] <= 1:
            raise ValueError(f"{path} is damaged: {key}={summary[key]!r} is not a share from 0 to 1")
    if len(shares) == 1:
        raise ValueError(f"{path} is damaged: it has {shares[0]} alone; accuracy and F1 belong together")
    if not isinstance(summary.get("test_labels_sha256"), str):
        raise ValueError(f"{path} is damaged: test_labels_sha256 is missing")
    return summary


def check_figures(folder: RunFolder, config: Mapping[str, Any], summary: dict[str, Any]) -> list[str]:
    """Compare a summary with the other files of its run; metrics that it lacks are added to it.

    Returns:
        What could not be checked, and why, a phrase each.

    Raises:
        ValueError: files contradict each other, or one is damaged; the message names them and the figures.
    """
    path, unchecked = folder.path, []
    for key, part in (("seed", config), ("model", config.get("model")), ("data", config.get("data"))):
        value = part.get("seed" if key == "seed" else "name") if isinstance(part, Mapping) else None
        if value is not None and key in summary and summary[key] != value:
            _contradiction(path, key, value, "config.yaml")
    if "test/accuracy" in summary or any((path / name).is_file() for name in OF_CLASSES):
        unchecked += _check_classes(path, summary)
    elif (path / "reconstruction.npz").is_file():
        losses = read_npz(path / "reconstruction.npz").get("losses", np.zeros(0))
        if losses.shape != (summary.get("test_images", len(losses)),) or losses.dtype.kind != "f":
            raise ValueError(f"{path / 'reconstruction.npz'} is damaged: it lacks a loss for each test image")
        _compare_loss(path, summary, losses.astype(np.float64), "reconstruction.npz")
    _check_data(path, summary)
    unchecked += _check_epochs(folder, config, summary)
    return unchecked + _check_parameters(path, summary)


def _contradiction(path: Path, key: str, found: Any, source: str) -> None:
    # The figure that is not believed stands nowhere in a report, not even here.
    raise ValueError(f"{path / 'summary.json'} contradicts {source}, according to which {key} is {found!r}")


def _check_classes(path: Path, summary: dict[str, Any]) -> list[str]:
    """Recompute what follows from the predictions or, where those cannot be read, from the confusion matrix."""
    source, unchecked = "predictions.npz", []
    names: Sequence[str] | None
    try:
        arrays = read_predictions(path)
    except (ValueError, OSError) as error:
        why = "predictions.npz is missing" if isinstance(error, FileNotFoundError) else str(error)
        source = "confusion_matrix.csv"
        unchecked = [f"the accuracy is checked against confusion_matrix.csv alone ({why})"]
        try:
            names, confusion = read_confusion(path)
        except OSError:
            raise ValueError(f"{path} has neither predictions.npz nor confusion_matrix.csv to check by") from None
        images = int(confusion.sum())
    else:
        labels, predictions = arrays["labels"].astype(np.int64), arrays["predictions"].astype(np.int64)
        images, columns = len(labels), arrays["probabilities"].shape[-1]
        confusion = confusion_of(labels, predictions, int(arrays.get("num_classes", np.array(columns))))
        hashed = hashlib.sha256(labels.tobytes()).hexdigest()
        if summary["test_labels_sha256"] != hashed:
            _contradiction(path, "test_labels_sha256", hashed, source)
        _check_probabilities(path, summary, arrays)
        names = _check_confusion(path, confusion)
    if summary.get("test_images", images) != images:
        _contradiction(path, "test_images", images, source)
    for name, value in scores(confusion).items():
        told = summary.setdefault(f"test/{name}", value)
        if not is_number(told) or not math.isclose(told, value, rel_tol=EXACT, abs_tol=EXACT):
            _contradiction(path, f"test/{name}", value, source)
    _check_per_class(path, confusion, names)
    return unchecked


def _check_confusion(path: Path, confusion: Any) -> Sequence[str] | None:
    """The class names of the file of the confusion matrix, which must be this one; None where it is not read."""
    if not (path / "confusion_matrix.csv").is_file():
        return None
    names, written = read_confusion(path)
    if written.shape != confusion.shape or (written != confusion).sum():
        raise ValueError(f"{path / 'confusion_matrix.csv'} has other counts than predictions.npz gives")
    return names


def _check_per_class(path: Path, confusion: Any, names: Sequence[str] | None) -> None:
    file = path / "per_class.csv"
    if names is None or not file.is_file():
        return
    rows, expected = read_csv(file), per_class(confusion, names)
    try:
        written = np.array([[float(row[key]) for key in SCORES] for row in rows]).reshape(len(rows), len(SCORES))
    except (KeyError, ValueError):
        raise ValueError(f"{file} is damaged: it lacks the scores of each class") from None
    followed = np.array([[row[key] for key in SCORES] for row in expected], dtype=float)
    if [row.get("class") for row in rows] != [*names] or not np.allclose(written, followed, rtol=0, atol=EXACT):
        raise ValueError(f"{file} has classes or scores that do not follow from the predictions")


def _check_probabilities(path: Path, summary: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Whether the loss and the predictions follow from the probabilities."""
    probabilities, images = arrays["probabilities"], np.arange(len(arrays["labels"]))
    if not len(images):
        return
    if not np.isfinite(probabilities).all():  # of a network that gives no numbers
        if summary.get("test/loss") is not None:
            _contradiction(path, "test/loss", None, "predictions.npz")
        return
    top = arrays.get("top_classes")
    if top is None:
        said = probabilities[images, arrays["predictions"]]
    else:
        said = np.where(top == arrays["predictions"][:, None], probabilities, -1).max(1)
    if (said < probabilities.max(1)).any():
        raise ValueError(f"{path / 'predictions.npz'} has predictions that are not the most probable class")
    if top is not None:
        return  # the loss does not follow from the likeliest classes
    true = probabilities[images, arrays["labels"]].astype(np.float64)
    losses = -np.log(np.maximum(true, LEAST_SHOWN))
    _compare_loss(path, summary, losses, "predictions.npz", least=bool(true.min() < LEAST_SHOWN))


def _compare_loss(
    path: Path, summary: Mapping[str, Any], losses: np.ndarray, source: str, *, least: bool = False
) -> None:
    """Whether the loss is the mean of these, or at `least` so much."""
    told, found = summary.get("test/loss"), float(losses.mean()) if len(losses) else math.nan
    if told is None or not math.isfinite(found):
        return
    within = 1e-5 + 1e-4 * abs(found)
    if told < found - within or (told > found + within and not least):
        _contradiction(path, "test/loss", found, source)


def _check_data(path: Path, summary: dict[str, Any]) -> None:
    """Whether `data.json` has the splits of the summary; it tells the hash of a test set that the summary lacks."""
    file = path / "data.json"
    if not file.is_file():
        return  # a run of an earlier version
    splits = check_kinds(file, read_json(file), {"splits": dict}).get("splits", {})
    for name in ("train", "val", "test"):
        known = check_kinds(file, splits.get(name, {"images": 0}), {"images": int, "files_sha256": str})
        images, hashed = known.get("images", 0), known.get("files_sha256")
        if summary.get(f"{name}_images", images) != images:
            _contradiction(path, f"{name}_images", images, file.name)
        if name == "test" and hashed is not None and summary.setdefault("test_set_sha256", hashed) != hashed:
            _contradiction(path, "test_set_sha256", hashed, file.name)


def _check_epochs(folder: RunFolder, config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Whether `metrics.csv` has the epochs of the summary, one after the other, in figures that can be."""
    file = folder.path / "metrics.csv"
    if not file.is_file():
        return ["the epochs and times are not checked (metrics.csv is missing)"]
    rows = folder.read_metrics()
    for row in rows:
        for key, value in row.items():
            share = key.partition("/")[2] in ("accuracy", "f1_macro")
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                continue  # a loss may have been infinite
            if not is_number(value) or abs(value) > LARGEST_FLOAT or (share and not 0 <= value <= 1):
                raise ValueError(f"{file} is damaged: {key}={value!r} is impossible")
    if [row.get("epoch") for row in rows] != [*range(1, len(rows) + 1)]:
        raise ValueError(f"{file} is damaged: its epochs do not follow one after the other")
    if summary.get("epochs", len(rows)) != len(rows):
        _contradiction(folder.path, "epochs", len(rows), "metrics.csv")
    best = _best_epoch(rows, config, "test/accuracy" in summary)
    if best and summary.get("best_epoch", best) != best:
        _contradiction(folder.path, "best_epoch", best, "metrics.csv")
    told, seconds = summary.get("train_seconds"), [row.get("seconds") for row in rows]
    if rows and told is not None and all(map(is_number, seconds)):
        found = round(sum(float(one) for one in seconds if one is not None), 3)
        if abs(told - found) > 0.0011:
            _contradiction(folder.path, "train_seconds", found, "metrics.csv")
        rate, images = summary.get("images_per_second"), summary.get("train_images")
        if (
            found
            and images
            and rate is not None
            and abs(rate - len(rows) * images / found) > 0.1 + 0.001 * rate / found
        ):
            _contradiction(folder.path, "images_per_second", round(len(rows) * images / found, 1), "metrics.csv")
    return []


def _best_epoch(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], has_classes: bool) -> int | None:
    """The epoch whose weights were tested; None where its rows do not tell."""
    trainer = config.get("trainer")
    monitor = trainer.get("monitor") if isinstance(trainer, Mapping) else None
    monitor = monitor or ("val/accuracy" if has_classes else "val/loss")
    values = [row.get(str(monitor)) for row in rows]
    if not rows or all(value is None for value in values):
        return len(rows) or None
    if not all(map(is_number, values)):
        return None
    sign = -1 if monitor == "val/loss" else 1
    return 1 + max(range(len(rows)), key=lambda i: sign * values[i])  # type: ignore[operator]


def _check_parameters(path: Path, summary: Mapping[str, Any]) -> list[str]:
    """Whether the weights have as many numbers as the summary says; of the file only the header is read."""
    file = path / "checkpoints" / "best.safetensors"
    if summary.get("parameters") is None:
        return []
    if not file.is_file():
        return ["the parameters are not checked (checkpoints/best.safetensors is missing)"]
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length)) if length <= LARGEST_HEADER else {}
        shapes = {name: one["shape"] for name, one in header.items() if name.startswith("model.")}
        found = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(UNTRAINED))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        shapes, found = {}, 0  # `evaluate` and `predict` say what is wrong with weights
    if not shapes:
        return ["the parameters are not checked (checkpoints/best.safetensors is damaged)"]
    if summary["parameters"] != found:
        _contradiction(path, "parameters", found, "the weights")
    return []
