"""How well probabilities rank images: ROC and precision–recall curves of a class against the rest, top-k accuracy.

Where a figure is undefined, because a class has no images or all of them, it is NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOP = 5
RANKED_CLASSES = 10  # that have curves; more would be indistinguishable, and each takes a sort of all images
MOST_THRESHOLDS = 200  # of a class in `thresholds.csv`


@dataclass(frozen=True)
class Ranking:
    """The images of a class against the rest, at each threshold of its probability; the highest threshold is first."""

    thresholds: np.ndarray  # (T,), the distinct probabilities; an image is positive if its own is at least as high
    hits: np.ndarray  # int64 (T,), true positives
    false_alarms: np.ndarray  # int64 (T,), false positives
    positives: int
    negatives: int

    @property
    def sensitivity(self) -> np.ndarray:
        """True positives, of all positives: recall, (T,)."""
        return _divide(self.hits, self.positives)

    @property
    def false_positive_rate(self) -> np.ndarray:
        """False positives, of all negatives, (T,): 1 − specificity."""
        return _divide(self.false_alarms, self.negatives)

    @property
    def precision(self) -> np.ndarray:
        """True positives, of all that are called positive, (T,)."""
        return _divide(self.hits, self.hits + self.false_alarms)

    @property
    def roc_auc(self) -> float:
        """The area under the ROC curve: how often an image of the class has a higher probability than another."""
        heights, places = (np.concatenate([[0.0], rate]) for rate in (self.sensitivity, self.false_positive_rate))
        return float(np.sum(np.diff(places) * (heights[1:] + heights[:-1]) / 2))

    @property
    def average_precision(self) -> float:
        """The area under the precision–recall curve as steps: the mean precision at each image of the class."""
        return float(np.sum(np.diff(self.sensitivity, prepend=0.0) * self.precision))


def _divide(counts: np.ndarray, total: np.ndarray | int) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return np.true_divide(counts, total)


def rank_class(is_positive: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """Count true and false positives at each threshold.

    Args:
        is_positive: bool (N,), N at least 1.
        probabilities: of the class, (N,).
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, scores = is_positive[order], probabilities[order]
    # Images of equal probability become positive together.
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    hits = np.cumsum(ranked)[last]
    return Ranking(scores[last], hits, last + 1 - hits, int(ranked.sum()), int((~ranked).sum()))


def rank_classes(labels: np.ndarray, probabilities: np.ndarray) -> list[Ranking]:
    """Rank each class against the rest.

    Args:
        labels: (N,).
        probabilities: (N, K).
    """
    return [rank_class(labels == number, probabilities[:, number]) for number in range(probabilities.shape[1])]


def list_thresholds(rankings: Sequence[Ranking], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `thresholds.csv`: for each class, what follows from calling images positive from a threshold on.

    A class with more than `MOST_THRESHOLDS` thresholds has that many, evenly spaced in rank, the first and last among
    them.
    """
    rows = []
    for name, found in zip(class_names, rankings, strict=True):
        count = len(found.thresholds)
        for place in np.unique(np.linspace(0, count - 1, min(count, MOST_THRESHOLDS)).round().astype(int)).tolist():
            hits, false_alarms = int(found.hits[place]), int(found.false_alarms[place])
            rows.append(
                {
                    "class": name,
                    "threshold": float(found.thresholds[place]),
                    "true_positives": hits,
                    "false_positives": false_alarms,
                    "false_negatives": found.positives - hits,
                    "true_negatives": found.negatives - false_alarms,
                    "sensitivity": float(found.sensitivity[place]),
                    "specificity": float(1 - found.false_positive_rate[place]),
                    "precision": float(found.precision[place]),
                }
            )
    return rows


def score_ranking(
    arrays: Mapping[str, np.ndarray], classes: int, rankings: Sequence[Ranking] | None = None
) -> dict[str, float]:
    """Up to `RANKED_CLASSES` classes, the areas under their curves, mean over the classes; with more, top-5 accuracy.

    Areas are missing if one of them is undefined, or if there are too many images to keep all probabilities.

    Args:
        arrays: as in `predictions.npz`.
        rankings: of each class, if they are already there.
    """
    labels, probabilities, top = arrays["labels"], arrays["probabilities"], arrays.get("top_classes")
    if not len(labels) or not np.isfinite(probabilities).all():
        return {}
    if classes > RANKED_CLASSES:
        return {"top5_accuracy": compute_top_accuracy(labels, probabilities, top)}
    if rankings is None:
        rankings = rank_classes(labels, probabilities) if top is None else []
    if not rankings or not all(found.positives and found.negatives for found in rankings):
        return {}
    return {
        key: float(np.mean([getattr(found, key) for found in rankings])) for key in ("roc_auc", "average_precision")
    }


def compute_top_accuracy(labels: np.ndarray, probabilities: np.ndarray, top_classes: np.ndarray | None = None) -> float:
    """The share of images whose true class is among the `TOP` likeliest; of equal ones the first counts as likelier.

    Args:
        labels: (N,), N at least 1.
        probabilities: (N, K), or (N, T), T at least `TOP`, of `top_classes`.
        top_classes: (N, T), the likeliest classes first; None if all have their probability.
    """
    if top_classes is not None:
        return float((top_classes[:, :TOP] == labels[:, None]).any(1).mean())
    true = np.take_along_axis(probabilities, labels[:, None], 1)
    ahead = (probabilities > true).sum(1)
    ahead += ((probabilities == true) & (np.arange(probabilities.shape[1]) < labels[:, None])).sum(1)
    return float((ahead < TOP).mean())
