"""Prediction sets by split-conformal prediction: the classes that fit an image, or none.

Each class of an image gets a number of how little it fits. Those of the true classes of n other images, which no
training has seen, give a threshold; a prediction set holds the classes that do not exceed it. If a new image is of the
same kind as those n, its set misses the true class with at most the chosen probability, whatever network and number
are used. Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); for an introduction, Angelopoulos
and Bates, arXiv:2107.07511.

The usual number is 1 − probability. But probabilities add up to 1 for nonsense too, so that most letters get a digit
with certainty. Ours is how far an image's logits lie from those of a class, which is large for all classes if an image
is like none of them (Lee et al., arXiv:1807.03888, with a covariance for each class). benchmarks/EVIDENCE.md compares.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

MOST_CLASSES = 100  # that have a distance; with more, their covariances would take gigabytes
PRIOR = 10  # images per class and dimension that the covariance of all classes counts for in that of one
RIDGE = 1e-3  # of the mean variance, added to every variance, so that a constant logit is no certainty


@dataclass(frozen=True)
class Misfit:
    """How little each class fits an image.

    With up to `MOST_CLASSES` classes it is the squared Mahalanobis distance of the image's logits from those of the
    class, with more −log of the probability, which gives no empty set to an image that the network is sure of.

    Attributes:
        means: of each class's logits, (K, K); None for −log of the probability.
        precisions: inverse covariance of each class's logits, (K, K, K); zeros for a class without images, which then
            fits nothing.
    """

    means: np.ndarray | None = None
    precisions: np.ndarray | None = None

    @classmethod
    def fit(cls, logits: np.ndarray, labels: np.ndarray) -> "Misfit":
        """Learn what the logits of each class are like.

        Args:
            logits: (N, K), of images that do not calibrate the threshold.
            labels: int64 (N,).
        """
        classes = logits.shape[1]
        if classes > MOST_CLASSES:
            return cls()
        logits = logits.astype(np.float64)
        counts = np.bincount(labels, minlength=classes)
        sums = np.stack([logits[labels == number].sum(0) for number in range(classes)])
        means = sums / np.maximum(counts, 1)[:, None]
        residuals = logits - means[labels]
        pooled = residuals.T @ residuals / max(1, len(labels))
        precisions = np.zeros((classes, classes, classes))
        for number in np.flatnonzero(counts):
            own = residuals[labels == number]
            covariance = (own.T @ own + PRIOR * classes * pooled) / (len(own) + PRIOR * classes)
            covariance += max(RIDGE * np.trace(covariance) / classes, 1e-9) * np.eye(classes)
            precisions[number] = np.linalg.inv(covariance)
        return cls(means, precisions)

    def measure(self, logits: np.ndarray) -> np.ndarray:
        """How little each class fits, (N, K), of the logits (N, K)."""
        logits = logits.astype(np.float64)
        if self.means is None or self.precisions is None:
            highest = logits.max(1, keepdims=True)
            return np.log(np.exp(logits - highest).sum(1, keepdims=True)) + highest - logits
        distances = np.full(logits.shape, np.inf)
        for number in np.flatnonzero(self.precisions.any((1, 2))):
            away = logits - self.means[number]
            distances[:, number] = np.einsum("ni,ni->n", away @ self.precisions[number], away)
        return distances


@dataclass(frozen=True)
class PredictionSets:
    """Decides which classes fit an image."""

    misfit: Misfit
    scores: np.ndarray  # (n,), misfits of the true classes of the calibration images
    miss: float  # the largest share of images like those whose set may miss the true class

    @property
    def threshold(self) -> float:
        """The largest misfit of a class that is in a set; infinite if n is too small for `miss`."""
        return compute_threshold(self.scores, self.miss)

    def find(self, logits: np.ndarray) -> np.ndarray:
        """Which classes are in the set of each image, bool (N, K), by its logits (N, K)."""
        return self.misfit.measure(logits) <= self.threshold


def compute_threshold(scores: np.ndarray, miss: float) -> float:
    """The smallest of n scores that at least (1 − miss) · (n + 1) of them do not exceed; infinite if n is too small.

    Args:
        scores: (n,).
        miss: between 0 and 1.
    """
    # The decimal that the user wrote, because 1 − 0.1 in floating point may round the rank up by one.
    rank = math.ceil((len(scores) + 1) * (1 - Fraction(repr(float(miss)))))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def find_least_images(miss: float) -> int:
    """The fewest calibration images that give a finite threshold."""
    return math.ceil(1 / Fraction(repr(float(miss)))) - 1


def score_sets(sizes: np.ndarray, covered: np.ndarray) -> dict[str, float]:
    """The share of sets with the true class, their mean number of classes, and the share of empty ones.

    Args:
        sizes: classes in the set of each image, (N,), N at least 1.
        covered: bool (N,), whether the true class is among them.
    """
    return {
        "coverage": float(np.mean(covered)),
        "mean_set_size": float(np.mean(sizes)),
        "unknown": float(np.mean(sizes == 0)),
    }
