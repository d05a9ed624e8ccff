"""Figures that follow from a confusion matrix (rows true, columns predicted).

Beyond 1,000 classes the matrix is sparse (`confusion_of`): `sum`, `diagonal` and `trace` work on both kinds.
A score over nothing (precision of a class never predicted, recall of an absent one) is 0, as in scikit-learn.
"""

from collections.abc import Sequence

import numpy as np

from cnnbench import registry
from cnnbench.registry import register


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Every registered metric of a (K, K) confusion matrix, by name."""
    return {name: registry.build("metric", name, confusion=confusion) for name in registry.names("metric")}


@register("metric", "accuracy")
def accuracy(confusion: np.ndarray) -> float:
    """The share of images whose class was predicted."""
    return float(_ratio(confusion.trace(), confusion.sum()))


@register("metric", "f1_macro")
def f1_macro(confusion: np.ndarray) -> float:
    """The mean of the classes' F1 scores, over the classes that are among the labels or the predictions.

    This is scikit-learn's `f1_score(labels, predictions, average="macro")`.
    """
    *_, f1, _ = _class_scores(confusion)
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    return float(f1[seen].mean()) if seen.any() else 0.0


def per_class(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Precision, recall, F1 and support (number of true images) of each class."""
    return [
        {"class": name, "precision": p, "recall": r, "f1": f, "support": int(n)}
        for name, p, r, f, n in zip(class_names, *(part.tolist() for part in _class_scores(confusion)), strict=True)
    ]


def _class_scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    hits, predicted, true = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    return _ratio(hits, predicted), _ratio(hits, true), _ratio(2 * hits, predicted + true), true


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
