"""Checks that the figures of a measured split follow from the files beside them.

`predictions.npz` holds what was measured. From it follow every metric, the scores of each class, the confusion matrix,
the loss (from the probabilities), the number of images and the hash of their labels. For a task without classes,
`reconstruction.npz` holds the loss of each image.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cnnbench.metrics import (
    OF_PROBABILITIES,
    average_f1_of_present,
    compute_accuracy_interval,
    compute_scores,
    count_confusion,
    list_metrics,
    score_classes,
    score_probabilities,
)
from cnnbench.metrics.ranking import RANKED_CLASSES, Ranking, rank_classes, score_ranking
from cnnbench.metrics.scores import OF_RANKING
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.storage.arrays import read_npz
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import check_kinds, is_number, read_json
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import format_path

SCORES = ("precision", "recall", "f1", "support")
LATER_SCORES = ("specificity", "roc_auc", "average_precision")  # earlier versions did not write them
OF_CLASSES = ("predictions.npz", "confusion_matrix.csv")
EXACT = 1e-9  # figures are written with all their digits
LEAST_SHOWN = 1e-37  # a smaller probability has lost digits in float32, or is 0
LONGEST_VALUE = 60  # characters of a value in a message


class Contradiction(ValueError):
    """A figure in a file is not the one that follows from something else.

    Attributes:
        file: the file that is not believed.
        figure: the name of the figure.
        value: the figure in the file.
        source: what the figure should follow from, such as another file.
        found: the figure that does follow from it.
    """

    def __init__(self, file: Path, figure: str, value: Any, source: str, found: Any) -> None:
        self.file, self.figure, self.value, self.source, self.found = file, figure, value, source, found
        super().__init__(self.describe(format_path(file)))

    def describe(self, file: str) -> str:
        """The message, with another name for the file."""
        return f"{file} says {_show(self.value)} for {self.figure}; by {self.source} it is {_show(self.found)}"

    def describe_without_value(self) -> str:
        """The message without the figure that is not believed, for tables of figures."""
        path, found = format_path(self.file), _show(self.found)
        return f"{path} contradicts {self.source}, according to which {self.figure} is {found}"


def _show(value: Any) -> str:
    return repr(value)[:LONGEST_VALUE]


def _is_equal(given: Any, value: float) -> bool:
    return is_number(given) and math.isclose(given, value, rel_tol=EXACT, abs_tol=EXACT)


@dataclass
class Figures:
    """Figures of a file, which are compared with the files beside it one by one.

    Attributes:
        file: such as `summary.json`.
        values: its figures.
        prefix: of the names of scores, such as `test/accuracy`.
        images: the name of the number of images.
        unchecked: what could not be compared, and why, a phrase each.
    """

    file: Path
    values: dict[str, Any]
    prefix: str = "test/"
    images: str = "test_images"
    unchecked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder of the file and of those that it is compared with."""
        return self.file.parent

    def expect(self, key: str, found: Any, source: str) -> None:
        """Refuse a figure that is not the one found elsewhere; a missing one is no contradiction."""
        if self.values.get(key, found) != found:
            self.contradict(key, found, source)

    def contradict(self, key: str, found: Any, source: str) -> NoReturn:
        """Raise the error of a figure that is not the one found elsewhere."""
        raise Contradiction(self.file, key, self.values.get(key), source, found)

    def check_measured(self) -> None:
        """Compare the figures of the measured split; metrics that are missing are added.

        Raises:
            Contradiction: two files contradict each other; the message gives both values.
            ValueError: a file is damaged, or predictions do not follow from probabilities.
        """
        if f"{self.prefix}accuracy" in self.values or any((self.folder / name).is_file() for name in OF_CLASSES):
            self._check_classes()
        else:
            self._check_reconstruction()

    def _check_classes(self) -> None:
        """Recompute what follows from the predictions or, if those cannot be read, from the confusion matrix."""
        source, rankings = "predictions.npz", list[Ranking]()
        of_probabilities, of_ranking = dict[str, float](), dict[str, float]()
        names: Sequence[str] | None
        try:
            arrays = read_predictions(self.folder)
        except (ValueError, OSError) as error:
            why = "predictions.npz is missing" if isinstance(error, FileNotFoundError) else str(error)
            source = "confusion_matrix.csv"
            self.unchecked.append(f"the accuracy is checked against confusion_matrix.csv alone ({why})")
            try:
                names, confusion = read_confusion(self.folder)
            except OSError:
                raise ValueError(f"{self.folder} has neither predictions.npz nor confusion_matrix.csv") from None
            images = int(confusion.sum())
        else:
            labels, predictions = arrays["labels"].astype(np.int64), arrays["predictions"].astype(np.int64)
            images, columns = len(labels), arrays["probabilities"].shape[-1]
            confusion = count_confusion(labels, predictions, int(arrays.get("num_classes", np.array(columns))))
            self.expect("test_labels_sha256", hashlib.sha256(labels.tobytes()).hexdigest(), source)
            self._check_probabilities(arrays)
            of_probabilities = score_probabilities(arrays)
            if images and "top_classes" not in arrays and columns <= RANKED_CLASSES:
                rankings = rank_classes(labels, arrays["probabilities"])
            of_ranking = score_ranking(arrays, confusion.shape[0], rankings)
            names = self._read_class_names(confusion)
        self.expect(self.images, images, source)
        for metric in (*OF_PROBABILITIES, *OF_RANKING):
            if metric.name not in of_probabilities | of_ranking:  # nothing shows that it is right
                self.values.pop(f"{self.prefix}{metric.name}", None)
        added = self._compute_scores(confusion) | of_probabilities
        for name, value in (added | of_ranking).items():
            key = f"{self.prefix}{name}"
            if name in added:  # areas under curves are compared only if the file has them
                self.values.setdefault(key, value)
            if not _is_equal(self.values.get(key, value), value):
                self.contradict(key, value, source)
        if names is not None:
            self._check_per_class(score_classes(confusion, names), rankings, names, source)

    def _compute_scores(self, confusion: Any) -> dict[str, float]:
        return compute_scores(confusion) | compute_accuracy_interval(confusion)

    def _read_class_names(self, confusion: Any) -> Sequence[str] | None:
        """The class names of `confusion_matrix.csv`, whose counts must be these; None if there is no such file."""
        file = self.folder / "confusion_matrix.csv"
        if not file.is_file():
            return None
        names, counts = read_confusion(self.folder)
        if counts.shape != confusion.shape:
            raise Contradiction(file, "classes", counts.shape[0], "predictions.npz", confusion.shape[0])
        true, predicted = (counts != confusion).nonzero()
        if len(true):
            cell = int(true[0]), int(predicted[0])
            figure = f"images of {_show(names[cell[0]])} predicted as {_show(names[cell[1]])}"
            raise Contradiction(file, figure, int(counts[cell]), "predictions.npz", int(confusion[cell]))
        return names

    def _check_per_class(
        self, expected: list[dict[str, Any]], rankings: Sequence[Ranking], names: Sequence[str], source: str
    ) -> None:
        file = self.folder / "per_class.csv"
        if not file.is_file():
            return
        for scores, ranking in zip(expected, rankings, strict=False):  # without probabilities there are no rankings
            scores |= {"roc_auc": ranking.roc_auc, "average_precision": ranking.average_precision}
        rows = read_csv(file)
        keys = [*SCORES, *(key for key in LATER_SCORES if all(key in row for row in [*rows, *expected]))]
        try:
            # An area that is undefined is NaN, and an empty cell.
            given = np.array([[float(row[key] or math.nan) for key in keys] for row in rows])
            given = given.reshape(len(rows), len(keys))
        except (KeyError, ValueError):
            refuse_damaged(file, "it lacks the scores of each class")
        classes = [row.get("class") for row in rows]
        if classes != [*names]:
            different = (pair for pair in zip(classes, names, strict=False) if pair[0] != pair[1])
            value, found = next(different, (len(classes), len(names)))
            raise Contradiction(file, "the name or the number of classes", value, "confusion_matrix.csv", found)
        computed = np.array([[row[key] for key in keys] for row in expected], dtype=float).reshape(given.shape)
        number, score = (~np.isclose(given, computed, rtol=0, atol=EXACT, equal_nan=True)).nonzero()
        if len(number):
            cell = int(number[0]), int(score[0])
            figure = f"{keys[cell[1]]} of {_show(names[cell[0]])}"
            raise Contradiction(file, figure, float(given[cell]), source, float(computed[cell]))

    def _check_probabilities(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Check that the predictions and the loss follow from the probabilities."""
        probabilities, images = arrays["probabilities"], np.arange(len(arrays["labels"]))
        if not len(images):
            return
        if not np.isfinite(probabilities).all():  # the network gives no numbers, and so has no loss
            if self.values.get(f"{self.prefix}loss") is not None:
                self.contradict(f"{self.prefix}loss", None, "predictions.npz")
            return
        top = arrays.get("top_classes")
        if top is None:
            predicted = probabilities[images, arrays["predictions"]]
            true, are_all_known = probabilities[images, arrays["labels"]], True
        else:
            predicted = np.where(top == arrays["predictions"][:, None], probabilities, -1).max(1)
            true = np.where(top == arrays["labels"][:, None], probabilities, -1).max(1)
            are_all_known = bool((true >= 0).all())
            # A class that is not among the likeliest is no likelier than the last of them.
            true = np.where(true >= 0, true, probabilities.min(1))
        # Not argmax: where two probabilities round to the same number, either class may have been predicted.
        wrong = np.flatnonzero(predicted < probabilities.max(1))
        if len(wrong):
            raise ValueError(
                f"{self.folder / 'predictions.npz'} has predictions that are not the most probable class: the first is "
                f"that of image {wrong[0]}, with a probability of {predicted[wrong[0]]:.6g} where another class has "
                f"{probabilities[wrong[0]].max():.6g}"
            )
        true = true.astype(np.float64)
        is_least = not are_all_known or bool(true.min() < LEAST_SHOWN)
        self._check_loss(-np.log(np.maximum(true, LEAST_SHOWN)), "predictions.npz", is_least=is_least)

    def _check_reconstruction(self) -> None:
        """Check the loss of a run without classes against the losses of its images."""
        file = self.folder / "reconstruction.npz"
        if not file.is_file():
            self.unchecked.append("the loss is not checked (reconstruction.npz is missing)")
            return
        losses = read_npz(file).get("losses", np.zeros(0))
        if losses.shape != (self.values.get(self.images, len(losses)),) or losses.dtype.kind != "f":
            refuse_damaged(file, "it lacks a loss for each test image")
        self._check_loss(losses.astype(np.float64), file.name)

    def _check_loss(self, losses: np.ndarray, source: str, *, is_least: bool = False) -> None:
        """Check that the loss is the mean of these; if they are only lower bounds, that it is no less."""
        key = f"{self.prefix}loss"
        given, found = self.values.get(key), float(losses.mean()) if len(losses) else math.nan
        if given is None or not math.isfinite(found):
            return
        # The run summed losses of logits, in another order; here they come from probabilities in float32.
        tolerance = 1e-5 + 1e-4 * abs(found)
        if given < found - tolerance or (given > found + tolerance and not is_least):
            self.contradict(key, found, source)


class MeasuredFigures(Figures):
    """The figures of `metrics.json`, which `evaluate` writes beside a run."""

    def __init__(self, folder: Path) -> None:
        file = folder / "metrics.json"
        kinds = {name: (float, int, type(None)) for name in ("loss", *(metric.name for metric in list_metrics()))}
        super().__init__(file, check_kinds(file, read_json(file), {**kinds, "images": int}), "", "images")

    def _compute_scores(self, confusion: Any) -> dict[str, float]:
        return super()._compute_scores(confusion) | {"f1_macro": average_f1_of_present(confusion)}
