"""Test a finished run's stored weights again, and compare the result with its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.experiment.build import Parts
from cnnbench.experiment.evaluate import build_measurement
from cnnbench.experiment.measured_data import MeasuredData
from cnnbench.experiment.retraining import compare_class_names
from cnnbench.experiment.trained import Trained
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import BEST_WEIGHTS
from cnnbench.runs.measured import Contradiction
from cnnbench.storage.arrays import read_npz
from cnnbench.training.loop import Classified, Evaluation

SOURCE = "its weights"


def test_weights(trained: Trained, summary: Mapping[str, Any], parts: Parts, tolerance: float) -> None:
    """Test a run's weights on its test images.

    Args:
        trained: with the config that `parts` were built from.
        tolerance: the largest difference of a probability or, as a share, of a loss.

    Raises:
        Contradiction: the weights or the data give other figures than the run's files.
        Diverged: the loss of an image is infinite or not a number.
        ValueError: the weights do not fit the model, or a file is damaged.
    """
    dataset, folder = parts.dataset, trained.folder.path
    _check_preparation(trained, parts)
    ready = build_measurement(trained, MeasuredData(dataset, dataset.test, []), parts.device)
    found = ready.evaluate(ready.serve(dataset.test), keep_probabilities=True)
    predictions, losses = folder / "predictions.npz", folder / "reconstruction.npz"
    if found.classified is not None:
        compare_class_names(folder, list(dataset.info.class_names), "the data")
    if found.classified is not None and predictions.is_file():
        _compare_predictions(predictions, found.classified, tolerance)
    elif found.classified is None and losses.is_file():
        _compare_losses(losses, found.losses, tolerance)
    else:
        _compare_scores(folder / "summary.json", summary, found, tolerance)


def _check_preparation(trained: Trained, parts: Parts) -> None:
    """Check what the weights' file says about the images."""
    file, info = trained.folder.path / BEST_WEIGHTS, parts.dataset.info
    if trained.info != info:
        raise Contradiction(file, "the shape and classes of the images", trained.info, "the data", info)
    for name in ("mean", "std"):
        stored, found = getattr(trained, name), getattr(parts.dataset, name)
        if not np.allclose(stored, found, rtol=1e-5, atol=1e-7):
            raise Contradiction(file, f"the {name} of the images", stored, "the data", found)


def _compare_losses(file: Path, found: np.ndarray, tolerance: float) -> None:
    stored = read_npz(file)["losses"]  # as many as there are images, as `check_figures` has checked
    gaps = np.abs(stored - found) / (1 + np.abs(found))
    if not (gaps <= tolerance).all():
        worst = int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps)))
        raise Contradiction(file, f"losses[{worst}]", float(stored[worst]), SOURCE, float(found[worst]))


def _compare_scores(file: Path, summary: Mapping[str, Any], found: Evaluation, tolerance: float) -> None:
    """Compare the scores alone, for a run without its predictions."""
    for name, value in found.compute_scores().items():
        given = summary.get(f"test/{name}")
        # An image more or less is within the tolerance, however few there are.
        margin = tolerance * (1 + abs(value)) if name == "loss" else max(tolerance, 1.5 / len(found.losses))
        if given is not None and not abs(given - value) <= margin:
            raise Contradiction(file, f"test/{name}", given, SOURCE, value)


def _compare_predictions(file: Path, found: Classified, tolerance: float) -> None:
    """Compare stored probabilities and predictions with those of the weights; equally likely classes may change."""
    stored, own = read_predictions(file.parent), found.probabilities
    assert own is not None, "the test keeps them"
    if stored["labels"].tolist() != found.labels.tolist():
        raise Contradiction(file, "the labels", "others", "the data", "those of the test images")
    if stored["probabilities"].shape != own.shape:
        raise Contradiction(file, "the shape of probabilities", stored["probabilities"].shape, SOURCE, own.shape)
    gaps = np.abs(stored["probabilities"] - own)
    if not (gaps <= tolerance).all():
        worst = np.unravel_index(int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps))), gaps.shape)
        figure = f"probabilities[{', '.join(map(str, worst))}]"
        value = float(stored["probabilities"][worst])
        raise Contradiction(file, figure, value, SOURCE, float(own[worst]))
    classes = np.arange(own.shape[1])[None] if found.top_classes is None else found.top_classes
    likely = np.where(classes == stored["predictions"][:, None], own, -1).max(1)
    wrong = np.flatnonzero(own.max(1) - likely > 2 * tolerance)
    if len(wrong):
        image = int(wrong[0])
        value = int(stored["predictions"][image])
        raise Contradiction(file, f"predictions[{image}]", value, SOURCE, int(found.predictions[image]))
