"""How far predicted probabilities can be trusted: scores, reliability by confidence, and a temperature as remedy.

NLL and Brier score judge all probabilities of an image, and equal scikit-learn's log_loss and brier_score_loss. The
expected calibration error (Guo et al., arXiv:1706.04599) and the area under the risk-coverage curve (Geifman et al.,
arXiv:1805.08206) judge the confidence alone, which is the largest probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

BINS = 15
LEAST = float(np.finfo(np.float32).tiny)  # smaller probabilities have lost digits, or are 0, and count as this
LEAST_TEMPERATURE, MOST_TEMPERATURE = 2.0**-10, 2.0**10
DIGITS = 6  # of a fitted temperature: the others depend on the batch size

Arrays = Mapping[str, np.ndarray]  # as in `predictions.npz`


class NoTemperature(ValueError):
    """No temperature makes the probabilities of some images as likely as possible."""


@dataclass(frozen=True)
class Reliability:
    """Images in `BINS` bins of increasing confidence and, except for ties, equal numbers; (BINS,) each."""

    counts: np.ndarray  # images; those of equal confidence are in one bin, so that others may be empty
    confidence: np.ndarray  # its mean; NaN in an empty bin
    accuracy: np.ndarray  # the share of images that are classified correctly; NaN in an empty bin

    def compute_error(self) -> float:
        """The expected calibration error: the mean over the images of |accuracy − confidence| of their bin."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(self.counts * gaps) / self.counts.sum())


def score_probabilities(arrays: Arrays, temperature: float | None = None) -> dict[str, float]:
    """NLL, Brier score, expected calibration error, and area under the risk-coverage curve, by the name of the metric.

    NLL and Brier score are missing if only the likeliest classes have a probability, and so is everything after
    calibration. Nothing is there without images, or if a probability is not finite.

    Args:
        temperature: that calibrates the probabilities before they are scored.
    """
    found = _prepare(arrays, temperature)
    if found is None:
        return {}
    probabilities, correct = found
    confidence = probabilities.max(1).astype(np.float64)
    scores = {
        "ece": bin_by_confidence(confidence, correct).compute_error(),
        "aurc": compute_aurc(confidence, correct),
    }
    if arrays.get("top_classes") is not None:
        return scores
    true = probabilities[np.arange(len(correct)), arrays["labels"]].astype(np.float64)
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    # As scikit-learn does, so that the score of two classes is that of one probability.
    scale = 0.5 if probabilities.shape[1] == 2 else 1.0
    nll = float(-np.log(np.maximum(true, LEAST)).mean())
    return {"nll": nll, "brier": scale * float((squares - 2 * true + 1).mean()), **scores}


def measure_reliability(arrays: Arrays, temperature: float | None = None) -> Reliability | None:
    """The reliability of predictions; None where `score_probabilities` gives nothing."""
    found = _prepare(arrays, temperature)
    if found is None:
        return None
    probabilities, correct = found
    return bin_by_confidence(probabilities.max(1).astype(np.float64), correct)


def _prepare(arrays: Arrays, temperature: float | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities, calibrated if there is a temperature, and which predictions are correct."""
    probabilities = arrays["probabilities"]
    if not len(probabilities) or not np.isfinite(probabilities).all():
        return None
    if temperature is not None:
        if arrays.get("top_classes") is not None:
            return None
        probabilities = calibrate(probabilities, temperature)
    return probabilities, arrays["labels"] == arrays["predictions"]


def bin_by_confidence(confidence: np.ndarray, correct: np.ndarray) -> Reliability:
    """Put images, float64 (N,) and bool (N,), into bins, as scikit-learn's calibration_curve does by quantiles."""
    edges = np.percentile(confidence, np.linspace(0, 1, BINS + 1) * 100)
    bins = np.searchsorted(edges[1:-1], confidence)
    counts, sums, hits = (np.bincount(bins, weights, BINS) for weights in (None, confidence, correct))
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin is NaN
        return Reliability(counts, sums / counts, hits / counts)


def compute_aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The area under the risk-coverage curve: the error rate of the n most confident images, mean over all n."""
    # Images of equal confidence have no order, so each has the mean error rate of all of them.
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    error_rates = np.bincount(group, ~correct) / sizes
    errors = np.cumsum(np.repeat(error_rates, sizes))
    return float((errors / np.arange(1, len(errors) + 1)).mean())


def calibrate(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities, float64 (N, K), of logits that are divided by a temperature."""
    scaled = probabilities / probabilities.max(1, keepdims=True).astype(np.float64)
    np.power(scaled, 1 / temperature, out=scaled)
    return scaled / scaled.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the NLL of some images: logits / temperature are the calibrated ones.

    Args:
        logits: (N, K).
        labels: int64 (N,).

    Raises:
        NoTemperature: the minimum is at no temperature between the limits. It is at 0 if all images are classified
            correctly, and at infinity if the network is worse than guessing.
    """
    from scipy.optimize import brentq  # takes a moment to import, and few evaluations need it

    # Relative to the largest logit, exponentials are at most 1.
    relative = logits - logits.max(1, keepdims=True).astype(np.float64)
    true = relative[np.arange(len(labels)), labels].mean()

    # The NLL is convex in 1 / temperature, so that the minimum is where its derivative is 0.
    def differentiate(log_scale: float) -> float:
        weights = np.exp(np.exp(log_scale) * relative)
        expected = (weights * relative).sum(1) / weights.sum(1)
        return float(expected.mean() - true)

    low, high = -np.log(MOST_TEMPERATURE), -np.log(LEAST_TEMPERATURE)
    if differentiate(low) >= 0:
        raise NoTemperature("the network is no better than guessing on them")
    if differentiate(high) <= 0:
        raise NoTemperature("the network classifies all of them correctly, so that they do not show how often it errs")
    return float(f"{np.exp(-brentq(differentiate, low, high, xtol=1e-12)):.{DIGITS}g}")
