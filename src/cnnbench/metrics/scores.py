"""Metrics that follow from a confusion matrix (rows true, columns predicted).

Beyond 1,000 classes the matrix is sparse (`count_confusion`): `sum`, `diagonal` and `trace` work on both kinds.
A score over nothing (precision of a class never predicted, recall of an absent one) is 0, as in scikit-learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench import registry
from cnnbench.registry import register
from cnnbench.storage.text import format_percent

FIRST = ("accuracy", "f1_macro")
NORMAL_975 = 1.959963984540054  # the 97.5 % quantile of the normal distribution, for intervals of 95 %
ONE_RUN = (
    "the 95 % Wilson interval of one run, which covers the sampling of the test images but not the spread over seeds"
)


@dataclass(frozen=True)
class Metric:
    """How tables show a metric: the facts that it is registered with.

    Attributes:
        share: whether it lies between `lowest` and 1; its intervals are then cut there.
        detail: leave it out of tables of runs and groups and of `metrics.csv`; every other file and `evaluate` have it,
            and a report shows it in a separate table.
    """

    name: str
    title: str
    percent: bool = False
    digits: int = 4  # after the decimal point
    share: bool = False
    lowest: float = 0.0
    higher_is_better: bool = True  # which end a table sorts first, and which epoch or trial is the best
    detail: bool = False

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


# Scores that do not follow from a confusion matrix; `cnnbench.metrics.calibration` computes them. Less is better.
OF_PROBABILITIES = (
    Metric("nll", "NLL", higher_is_better=False),
    Metric("brier", "Brier", higher_is_better=False),
    Metric("ece", "ECE", percent=True, digits=2, share=True, higher_is_better=False),
    Metric("aurc", "AURC", digits=5, share=True, higher_is_better=False),
)
# Of probabilities too, computed by `cnnbench.metrics.ranking`; and of prediction sets (`cnnbench.metrics.conformal`).
OF_RANKING = (
    Metric("top5_accuracy", "top-5 accuracy", percent=True, digits=2, share=True),
    Metric("roc_auc", "ROC AUC", share=True),
    Metric("average_precision", "average precision", share=True),
)
OF_SETS = (
    Metric("abstain", "abstain", percent=True, digits=2, share=True, higher_is_better=False),
    Metric("coverage", "coverage", percent=True, digits=2, share=True),
    Metric("mean_set_size", "classes in a set", digits=3, higher_is_better=False),
    Metric("unknown", "unknown", percent=True, digits=2, share=True, higher_is_better=False),
)


def list_metrics(*, detail: bool | None = None) -> list[Metric]:
    """The registered metrics, accuracy and F1 first.

    Args:
        detail: only details, or only the others; None lists all.
    """
    names = sorted(registry.list_names("metric"), key=lambda name: (name not in FIRST, name))
    facts = {name: {"title": name.replace("_", " "), **registry.get_facts("metric", name)} for name in names}
    metrics = [Metric(name, **facts[name]) for name in names]
    return [metric for metric in metrics if detail is None or metric.detail == detail]


def find_metric(key: str) -> Metric:
    """The metric behind a figure such as `accuracy` or `val/accuracy`; a loss is one of which less is better."""
    name = key.rpartition("/")[2]
    unregistered = Metric(name, name, higher_is_better=name != "loss")
    return next(
        (metric for metric in (*list_metrics(), *OF_PROBABILITIES, *OF_RANKING, *OF_SETS) if metric.name == name),
        unregistered,
    )


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
    """The mean of the classes' F1 scores, over the classes that are among the labels or the predictions."""
    f1 = compute_f1(confusion)
    # As scikit-learn's f1_score(…, average="macro"), which does not know of classes that never occur.
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    return float(f1[seen].mean()) if seen.any() else 0.0


@register("metric", "balanced_accuracy", title="balanced accuracy", percent=True, digits=2, share=True, detail=True)
def balanced_accuracy(confusion: np.ndarray) -> float:
    """The mean of the classes' recalls, over the classes that have images; guessing gives 1 / K."""
    true = confusion.sum(1)
    recall = _divide(confusion.diagonal(), true)[true > 0]
    return float(recall.mean()) if len(recall) else 0.0


@register("metric", "cohen_kappa", title="Cohen's kappa", share=True, lowest=-1.0, detail=True)
def cohen_kappa(confusion: np.ndarray) -> float:
    """The agreement of predictions and labels beyond chance: 0 for guessing by their frequencies, 1 if all are right.

    Cohen, "A Coefficient of Agreement for Nominal Scales" (1960). 0 if there is only one class.
    """
    agreement, true, predicted = _compute_shares(confusion)
    by_chance = true @ predicted
    return float(_divide(agreement - by_chance, 1 - by_chance))


@register("metric", "mcc", title="MCC", share=True, lowest=-1.0, detail=True)
def mcc(confusion: np.ndarray) -> float:
    """Matthews' correlation of predictions and labels, from −1 to 1; 0 if all have the same label or prediction.

    For more than two classes, Gorodkin's R_K, "Comparing two K-category assignments by a K-category correlation
    coefficient" (2004).
    """
    agreement, true, predicted = _compute_shares(confusion)
    spread = math.sqrt((1 - true @ true) * (1 - predicted @ predicted))
    return float(_divide(agreement - true @ predicted, spread))


def _compute_shares(confusion: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The share of images that are right, and each class's share of the labels and of the predictions, (K,)."""
    total = max(1, int(confusion.sum()))
    return confusion.trace() / total, confusion.sum(1) / total, confusion.sum(0) / total


def compute_wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent trials (Wilson, 1927); from 0 to 1 without trials."""
    if not total:
        return 0.0, 1.0
    share, spread = successes / total, NORMAL_975**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    # At the ends the two are equal but for rounding.
    return (max(0.0, centre - half) if successes else 0.0), (min(1.0, centre + half) if successes < total else 1.0)


def compute_accuracy_interval(confusion: np.ndarray) -> dict[str, float]:
    """The Wilson interval of the accuracy, by the names that `summary.json` gives its ends."""
    ends = compute_wilson_interval(int(confusion.trace()), int(confusion.sum()))
    return dict(zip(("accuracy_low", "accuracy_high"), ends, strict=True))


def compute_f1(confusion: np.ndarray) -> np.ndarray:
    """Compute the F1 score of each class, (K,)."""
    return _compute_class_scores(confusion)["f1"]


def average_f1_of_present(confusion: np.ndarray) -> float:
    """The mean of the F1 scores of those classes that have images."""
    return float(compute_f1(confusion)[confusion.sum(1) > 0].mean())


def score_classes(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Precision, recall, F1, support (number of true images) and specificity of each class.

    The specificity of a class is the share of the other classes' images that were not taken for it.
    """
    scores = {key: values.tolist() for key, values in _compute_class_scores(confusion).items()}
    return [
        {"class": name, **dict(zip(scores, values, strict=True))}
        for name, *values in zip(class_names, *scores.values(), strict=True)
    ]


def _compute_class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    hits, predicted, true = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    others = true.sum() - true
    return {
        "precision": _divide(hits, predicted),
        "recall": _divide(hits, true),
        "f1": _divide(2 * hits, predicted + true),
        "support": true.astype(np.int64),
        "specificity": _divide(others - (predicted - hits), others),
    }


def _divide(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
