"""The pictures of a run, drawn from its folder."""

# Each function imports matplotlib itself: a process that leaves the drawing to another does without it.

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from cnnbench.metrics.ranking import rank_classes
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import RunFolder

Picture = partial[None]  # draws a picture when called; picklable, so that another process can call it


class Draw(Protocol):
    """Draws the pictures of a run, in any order."""

    def __call__(self, pictures: Sequence[Picture], *, wait: bool = True) -> None:
        """Draw pictures; all that were ever given are drawn when a call that waits returns."""


def draw_training_curves(run: RunFolder, best_epoch: int, monitor: str) -> None:
    """Draw `curves.png` from a run's `metrics.csv`; the other arguments are those of `plot_curves`."""
    from cnnbench.runs import figures

    figures.save_figure(figures.plot_curves(run.read_metrics(), best_epoch, monitor), run.path / "curves.png")


def draw_mistakes(folder: Path, images: np.ndarray) -> None:
    """Draw `mistakes.png` from a folder's `predictions.npz` and the images or signals of `plot_mistakes`."""
    from cnnbench.runs import figures

    names, _ = read_confusion(folder)
    figures.save_figure(figures.plot_mistakes(images, read_predictions(folder), names), folder / "mistakes.png")


def draw_confusion(folder: Path) -> None:
    """Draw `confusion_matrix.png` from a folder's `confusion_matrix.csv`."""
    from cnnbench.runs import figures

    names, confusion = read_confusion(folder)
    plot = figures.plot_confusion if len(names) <= figures.MATRIX_CLASSES else figures.plot_confused_pairs
    figures.save_figure(plot(confusion, names), folder / "confusion_matrix.png")


def draw_rankings(folder: Path) -> None:
    """Draw `ranking.png` from a folder's `predictions.npz`, which has the probabilities of all classes."""
    from cnnbench.runs import figures, probability_figures

    names, _ = read_confusion(folder)
    arrays = read_predictions(folder)
    rankings = rank_classes(arrays["labels"], arrays["probabilities"])
    figures.save_figure(probability_figures.plot_rankings(rankings, names), folder / "ranking.png")


def draw_reliability(folder: Path, temperature: float | None = None) -> None:
    """Draw `reliability.png` from a folder's `predictions.npz`; with a temperature, also after calibration."""
    from cnnbench.runs import figures, probability_figures

    arrays = read_predictions(folder)
    figures.save_figure(probability_figures.plot_reliability(arrays, temperature), folder / "reliability.png")


def draw_reconstructions(folder: Path, images: np.ndarray, made: np.ndarray, losses: np.ndarray) -> None:
    """Draw `reconstructions.png`; the arguments are those of `plot_reconstructions`."""
    from cnnbench.runs import figures

    figures.save_figure(figures.plot_reconstructions(images, made, losses), folder / "reconstructions.png")


def draw_samples(folder: Path, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], total: int) -> None:
    """Draw `samples.png`; the arguments are those of `plot_samples`."""
    from cnnbench.runs import figures

    figures.save_figure(figures.plot_samples(images, labels, class_names, total), folder / "samples.png")


def draw_in_turn(pictures: Sequence[Picture], *, wait: bool = True) -> None:
    """Draw pictures one after the other, at once."""
    for picture in pictures:
        picture()
