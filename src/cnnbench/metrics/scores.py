"""Metrics that follow from a confusion matrix (rows true, columns predicted).

Beyond 1,000 classes the matrix is sparse (`count_confusion`): `sum`, `diagonal` and `trace` work on both kinds.
A score over nothing (precision of a class never predicted, recall of an absent one) is 0, as in scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench import registry
from cnnbench.registry import register
from cnnbench.storage.text import format_percent

FIRST = ("accuracy", "f1_macro")


@dataclass(frozen=True)
class Metric:
    """How tables show a metric: the facts that it is registered with.

    Attributes:
        title: its heading; without one, its name.
        percent: whether it is shown in percent.
        digits: after the decimal point.
        share: whether it lies between 0 and 1; its intervals are then cut there.
        higher_is_better: which end a table sorts first, and which epoch or trial is the best.
    """

    name: str
    title: str
    percent: bool = False
    digits: int = 4
    share: bool = False
    higher_is_better: bool = True

    @property
    def factor(self) -> int:
        """100 for percent, else 1."""
        return 100 if self.percent else 1

    def format(self, value: float) -> str:
        """Write a value as tables do, such as `98.79%`."""
        return format_percent(value, self.digits) if self.percent else f"{value:.{self.digits}f}"

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return f"{self.title} %" if self.percent else self.title


def list_metrics() -> list[Metric]:
    """Every registered metric, accuracy and F1 first."""
    names = sorted(registry.list_names("metric"), key=lambda name: (name not in FIRST, name))
    return [Metric(name, **{"title": name.replace("_", " "), **registry.get_facts("metric", name)}) for name in names]


def find_metric(key: str) -> Metric:
    """The metric behind a figure such as `accuracy` or `val/accuracy`; a loss is one of which less is better."""
    name = key.rpartition("/")[2]
    unregistered = Metric(name, name, higher_is_better=name != "loss")
    return next((metric for metric in list_metrics() if metric.name == name), unregistered)


def format_metric(key: str, value: float) -> str:
    """Write the value of a metric such as `accuracy` or `val/accuracy`, or of a loss, as tables do."""
    return find_metric(key).format(value)


def compute_scores(confusion: np.ndarray) -> dict[str, float]:
    """Compute every registered metric of a (K, K) confusion matrix."""
    return {name: registry.build("metric", name, confusion=confusion) for name in registry.list_names("metric")}


@register("metric", "accuracy", title="accuracy", percent=True, digits=2, share=True)
def accuracy(confusion: np.ndarray) -> float:
    """The share of images whose class was predicted."""
    return float(_divide(confusion.trace(), confusion.sum()))


@register("metric", "f1_macro", title="F1 macro", share=True)
def f1_macro(confusion: np.ndarray) -> float:
    """The mean of the classes' F1 scores, over the classes that are among the labels or the predictions.

    This is scikit-learn's `f1_score(labels, predictions, average="macro")`.
    """
    f1 = compute_f1(confusion)
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    return float(f1[seen].mean()) if seen.any() else 0.0


def compute_f1(confusion: np.ndarray) -> np.ndarray:
    """Compute the F1 score of each class, (K,)."""
    *_, f1, _ = _compute_class_scores(confusion)
    return f1


def average_f1_of_present(confusion: np.ndarray) -> float:
    """The mean of the F1 scores of those classes that have images."""
    return float(compute_f1(confusion)[confusion.sum(1) > 0].mean())


def score_classes(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Precision, recall, F1 and support (number of true images) of each class."""
    return [
        {"class": name, "precision": p, "recall": r, "f1": f, "support": int(n)}
        for name, p, r, f, n in zip(
            class_names, *(part.tolist() for part in _compute_class_scores(confusion)), strict=True
        )
    ]


def _compute_class_scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    hits, predicted, true = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    return _divide(hits, predicted), _divide(hits, true), _divide(2 * hits, predicted + true), true


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
