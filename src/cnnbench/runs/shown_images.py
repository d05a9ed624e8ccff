"""The images that the pictures of a run show."""

import numpy as np

RECONSTRUCTIONS = 8  # images in each half of reconstructions.png
MISTAKES = 25  # images in mistakes.png
SAMPLES = 25  # images in samples.png


def choose_of_each_class(labels: np.ndarray, most: int) -> np.ndarray:
    """The indices of the first image of each class, then of the second of each, until there are enough.

    Args:
        labels: (N,).
    """
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    # The place of each image among those of its class.
    turns = np.arange(len(labels)) - np.repeat(starts, counts)
    return order[np.argsort(turns, kind="stable")[:most]]


def find_worst_mistakes(labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The indices of the most confident wrong predictions, the most confident first.

    Args:
        labels, predictions: (N,).
        probabilities: (N, K), or (N, T) of the likeliest classes.
    """
    wrong = np.flatnonzero(labels != predictions)
    return wrong[np.argsort(-probabilities[wrong].max(1, initial=0), kind="stable")][:MISTAKES]


def choose_reconstructions(losses: np.ndarray) -> np.ndarray:
    """The indices of the images to draw: the first ones, then those with the largest loss, worst first."""
    worst = np.argsort(-losses, kind="stable")[:RECONSTRUCTIONS]
    return np.concatenate([np.arange(min(RECONSTRUCTIONS, len(losses))), worst])
