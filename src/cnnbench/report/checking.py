"""Checks that a run's figures follow from its files, so that an edited or damaged figure is not believed.

`predictions.npz` holds what was measured. From it follow every metric, the scores of each class, the confusion matrix,
the loss (from the probabilities), the number of test images and the hash of their labels. Seed, model and data come
from the sealed config, the epochs from `metrics.csv`, the parameters from the header of the weights.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cnnbench.metrics import compute_scores, count_confusion, find_metric, score_classes
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.arrays import read_npz
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import check_kinds, read_json
from cnnbench.storage.regular import refuse_damaged

LARGEST_FLOAT = 3.5e38  # losses are float32
LARGEST_HEADER = 2**24
# The type of each figure of a summary, and its largest possible value.
COUNT, AMOUNT, SHARE = ("a whole number", 10**15), ("a number", 10**15), ("a share", 1)
LIMITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("parameters", "macs", "receptive_field", "depth", "epochs", "best_epoch"), COUNT),
    **dict.fromkeys(("train_images", "val_images", "test_images"), COUNT),
    **dict.fromkeys(("train_seconds", "images_per_second"), AMOUNT),
    "test/loss": ("a number", LARGEST_FLOAT),
    **dict.fromkeys(("test/accuracy", "test/f1_macro"), SHARE),
}
SCORES = ("precision", "recall", "f1", "support")
OF_CLASSES = ("predictions.npz", "confusion_matrix.csv")
UNTRAINED = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norms, which are no parameters
EXACT = 1e-9  # figures are written with all their digits
LEAST_SHOWN = 1e-37  # a smaller probability has lost digits, or is 0


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False


def check_figures(folder: RunFolder, config: Mapping[str, Any], summary: dict[str, Any]) -> list[str]:
    """Compare a summary with the other files of its run; metrics that it lacks are added to it.

    Returns:
        What could not be checked, and why, a phrase each.

    Raises:
        ValueError: a figure is impossible, files contradict each other, or one is damaged; the message names them.
    """
    _check_limits(summary, folder.path / "summary.json")
    check = _Check(folder, config, summary)
    for key, part in (("seed", config), ("model", config.get("model")), ("data", config.get("data"))):
        value = part.get("seed" if key == "seed" else "name") if isinstance(part, Mapping) else None
        if value is not None:
            check.expect(key, value, "config.yaml")
    if "test/accuracy" in summary or any((folder.path / name).is_file() for name in OF_CLASSES):
        check.check_classes()
    elif (file := folder.path / "reconstruction.npz").is_file():
        losses = read_npz(file).get("losses", np.zeros(0))
        if losses.shape != (summary.get("test_images", len(losses)),) or losses.dtype.kind != "f":
            refuse_damaged(file, "it lacks a loss for each test image")
        check.check_loss(losses.astype(np.float64), file.name)
    check.check_splits()
    check.check_epochs()
    check.check_parameters()
    return check.unchecked


def _check_limits(summary: Mapping[str, Any], path: Path) -> None:
    for key, (kind, most) in LIMITS.items():
        value = summary.get(key)
        if key not in summary or (value is None and kind != SHARE[0]):
            continue
        fits = is_number(value) and 0 <= value <= most  # type: ignore[operator]
        if not fits or (kind == COUNT[0] and not isinstance(value, int)):
            refuse_damaged(path, f"{key}={value!r} is not {kind} from 0 to {most:.3g}")
    shares = [key for key in ("test/accuracy", "test/f1_macro") if key in summary]
    # A figure that was deleted would otherwise pass, because a missing figure contradicts nothing.
    if len(shares) == 1:
        refuse_damaged(path, f"it has {shares[0]} alone; accuracy and F1 belong together")
    if not isinstance(summary.get("test_labels_sha256"), str):
        refuse_damaged(path, "test_labels_sha256 is missing")


@dataclass
class _Check:
    """A summary, compared with the files beside it one by one."""

    folder: RunFolder
    config: Mapping[str, Any]
    summary: dict[str, Any]
    unchecked: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder.path

    def expect(self, key: str, found: Any, source: str) -> None:
        """Refuse a figure of the summary that is not the one found elsewhere; a missing one is no contradiction."""
        if self.summary.get(key, found) != found:
            self.contradict(key, found, source)

    def contradict(self, key: str, found: Any, source: str) -> NoReturn:
        # A report must not show a figure that is not believed, so the message does not quote it either.
        raise ValueError(f"{self.path / 'summary.json'} contradicts {source}, according to which {key} is {found!r}")

    def check_classes(self) -> None:
        """Recompute what follows from the predictions or, if those cannot be read, from the confusion matrix."""
        source = "predictions.npz"
        names: Sequence[str] | None
        try:
            arrays = read_predictions(self.path)
        except (ValueError, OSError) as error:
            why = "predictions.npz is missing" if isinstance(error, FileNotFoundError) else str(error)
            source = "confusion_matrix.csv"
            self.unchecked.append(f"the accuracy is checked against confusion_matrix.csv alone ({why})")
            try:
                names, confusion = read_confusion(self.path)
            except OSError:
                raise ValueError(f"{self.path} has neither predictions.npz nor confusion_matrix.csv") from None
            images = int(confusion.sum())
        else:
            labels, predictions = arrays["labels"].astype(np.int64), arrays["predictions"].astype(np.int64)
            images, columns = len(labels), arrays["probabilities"].shape[-1]
            confusion = count_confusion(labels, predictions, int(arrays.get("num_classes", np.array(columns))))
            self.expect("test_labels_sha256", hashlib.sha256(labels.tobytes()).hexdigest(), source)
            self.check_probabilities(arrays)
            names = self.read_class_names(confusion)
        self.expect("test_images", images, source)
        for name, value in compute_scores(confusion).items():
            given = self.summary.setdefault(f"test/{name}", value)
            if not is_number(given) or not math.isclose(given, value, rel_tol=EXACT, abs_tol=EXACT):
                self.contradict(f"test/{name}", value, source)
        if names is not None:
            self.check_per_class(confusion, names)

    def read_class_names(self, confusion: Any) -> Sequence[str] | None:
        """The class names of `confusion_matrix.csv`, whose counts must be these; None if there is no such file."""
        file = self.path / "confusion_matrix.csv"
        if not file.is_file():
            return None
        names, counts = read_confusion(self.path)
        if counts.shape != confusion.shape or (counts != confusion).sum():
            raise ValueError(f"{file} has other counts than predictions.npz gives")
        return names

    def check_per_class(self, confusion: Any, names: Sequence[str]) -> None:
        file = self.path / "per_class.csv"
        if not file.is_file():
            return
        rows, expected = read_csv(file), score_classes(confusion, names)
        try:
            given = np.array([[float(row[key]) for key in SCORES] for row in rows]).reshape(len(rows), len(SCORES))
        except (KeyError, ValueError):
            refuse_damaged(file, "it lacks the scores of each class")
        computed = np.array([[row[key] for key in SCORES] for row in expected], dtype=float)
        if [row.get("class") for row in rows] != [*names] or not np.allclose(given, computed, rtol=0, atol=EXACT):
            raise ValueError(f"{file} has classes or scores that do not follow from the predictions")

    def check_probabilities(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Check that the predictions and the loss follow from the probabilities."""
        probabilities, images = arrays["probabilities"], np.arange(len(arrays["labels"]))
        if not len(images):
            return
        if not np.isfinite(probabilities).all():  # the network gives no numbers, and so has no loss
            if self.summary.get("test/loss") is not None:
                self.contradict("test/loss", None, "predictions.npz")
            return
        top = arrays.get("top_classes")
        if top is None:
            predicted = probabilities[images, arrays["predictions"]]
        else:
            predicted = np.where(top == arrays["predictions"][:, None], probabilities, -1).max(1)
        # Not argmax: where two probabilities round to the same number, either class may have been predicted.
        if (predicted < probabilities.max(1)).any():
            raise ValueError(f"{self.path / 'predictions.npz'} has predictions that are not the most probable class")
        if top is not None:
            return  # the loss does not follow from the likeliest classes alone
        true = probabilities[images, arrays["labels"]].astype(np.float64)
        losses = -np.log(np.maximum(true, LEAST_SHOWN))
        self.check_loss(losses, "predictions.npz", is_least=bool(true.min() < LEAST_SHOWN))

    def check_loss(self, losses: np.ndarray, source: str, *, is_least: bool = False) -> None:
        """Check that the loss is the mean of these; if they are only lower bounds, that it is no less."""
        given, found = self.summary.get("test/loss"), float(losses.mean()) if len(losses) else math.nan
        if given is None or not math.isfinite(found):
            return
        # The run summed losses of logits, in another order; here they come from probabilities in float32.
        tolerance = 1e-5 + 1e-4 * abs(found)
        if given < found - tolerance or (given > found + tolerance and not is_least):
            self.contradict("test/loss", found, source)

    def check_splits(self) -> None:
        """Check the sizes of the splits against `data.json`, and take the hash of the test set from it if needed."""
        file = self.path / "data.json"
        if not file.is_file():
            return
        splits = check_kinds(file, read_json(file), {"splits": dict}).get("splits", {})
        for name in ("train", "val", "test"):
            split = check_kinds(file, splits.get(name, {"images": 0}), {"images": int, "files_sha256": str})
            self.expect(f"{name}_images", split.get("images", 0), file.name)
            if name == "test" and "files_sha256" in split:
                self.summary.setdefault("test_set_sha256", split["files_sha256"])
                self.expect("test_set_sha256", split["files_sha256"], file.name)

    def check_epochs(self) -> None:
        """Check that `metrics.csv` has the epochs of the summary, in order, and that its figures are possible."""
        file = self.path / "metrics.csv"
        if not file.is_file():
            self.unchecked.append("the epochs and times are not checked (metrics.csv is missing)")
            return
        rows = self.folder.read_metrics()
        for key, value in (item for row in rows for item in row.items()):
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                continue  # a loss may have been infinite
            is_share = key.partition("/")[2] in ("accuracy", "f1_macro")
            if not is_number(value) or abs(value) > LARGEST_FLOAT or (is_share and not 0 <= value <= 1):
                refuse_damaged(file, f"{key}={value!r} is impossible")
        if [row.get("epoch") for row in rows] != [*range(1, len(rows) + 1)]:
            refuse_damaged(file, "its epochs do not follow one after the other")
        self.expect("epochs", len(rows), file.name)
        if best := self.find_best_epoch(rows):
            self.expect("best_epoch", best, file.name)
        seconds = [row.get("seconds") for row in rows]
        if rows and self.summary.get("train_seconds") is not None and all(map(is_number, seconds)):
            self.check_times(round(sum(map(float, seconds)), 3), len(rows))  # type: ignore[arg-type]

    def find_best_epoch(self, rows: Sequence[Mapping[str, Any]]) -> int | None:
        """The epoch whose weights were tested; None if the rows do not say which."""
        trainer = self.config.get("trainer")
        monitor = trainer.get("monitor") if isinstance(trainer, Mapping) else None
        monitor = monitor or ("val/accuracy" if "test/accuracy" in self.summary else "val/loss")
        values = [row.get(str(monitor)) for row in rows]
        if not rows or all(value is None for value in values):
            return len(rows) or None
        if not all(map(is_number, values)):
            return None
        sign = 1 if find_metric(str(monitor)).higher_is_better else -1
        return 1 + int(np.argmax(sign * np.array(values, dtype=float)))

    def check_times(self, seconds: float, epochs: int) -> None:
        # Both are sums of seconds that were rounded to thousandths.
        if abs(self.summary["train_seconds"] - seconds) > 0.0011:
            self.contradict("train_seconds", seconds, "metrics.csv")
        rate, images = self.summary.get("images_per_second"), self.summary.get("train_images")
        if not seconds or not images or rate is None:
            return
        expected = epochs * images / seconds
        if abs(rate - expected) > 0.1 + 0.001 * rate / seconds:  # seconds are rounded to thousandths
            self.contradict("images_per_second", round(expected, 1), "metrics.csv")

    def check_parameters(self) -> None:
        """Check the number of parameters against the weights, of which only the file's header is read."""
        file = self.path / "checkpoints" / "best.safetensors"
        if self.summary.get("parameters") is None:
            return
        if not file.is_file():  # also, a named pipe must not be opened
            self.unchecked.append("the parameters are not checked (checkpoints/best.safetensors is missing)")
            return
        try:
            with file.open("rb") as opened:
                # safetensors: eight bytes of length, then a JSON header with the shape of each tensor.
                (length,) = struct.unpack("<Q", opened.read(8))
                header = json.loads(opened.read(length)) if length <= LARGEST_HEADER else {}
            shapes = {name: one["shape"] for name, one in header.items() if name.startswith("model.")}
            found = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(UNTRAINED))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
            shapes, found = {}, 0  # `evaluate` and `predict` say what is wrong with weights
        if shapes:
            self.expect("parameters", found, "the weights")
        else:
            self.unchecked.append("the parameters are not checked (checkpoints/best.safetensors is damaged)")
