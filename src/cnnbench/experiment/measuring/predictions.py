"""Predict image files in batches with any network. An exported network is used without torch, so this needs none."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np

from cnnbench.data.files.images import BadImage
from cnnbench.data.polarity import has_other_polarity
from cnnbench.metrics.conformal import PredictionSets

Answer = tuple[list[int], list[float], bool, list[int]]  # the fields of a `Prediction` from `classes` to `fits`
Classify = Callable[[np.ndarray], Iterator[Answer]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's prediction for one file."""

    file: str
    classes: Sequence[int] = ()  # the likeliest first; empty if there is an error
    probabilities: Sequence[float] = ()  # of these classes
    is_reversed: bool = False  # dark on light, and the training images light on dark, or the reverse
    fits: Sequence[int] = ()  # the prediction set, likeliest first; empty if no class fits, or without sets
    error: str | None = None  # why the file is not an image
    # uint8 (C, H, W), as the network takes them before normalisation; None unless they are kept
    pixels: np.ndarray | None = field(default=None, compare=False, repr=False)


def check_top(top: int, classes: int) -> None:
    """Raise a ValueError if `--top` asks for no class, or for more than there are."""
    if not isinstance(top, Integral) or not 1 <= top <= classes:
        raise ValueError(f"--top {top}: must be from 1 to {classes}, the run's number of classes")


def predict_batches(
    names: Iterable[str],
    decoded: Generator[np.ndarray | BadImage, None, None],
    classify: Classify,
    batch_size: int,
    *,
    invert: bool = False,
    keep_pixels: bool = False,
) -> Generator[list[Prediction], None, None]:
    """Predict images in order, one batch at a time; only a few batches are in memory.

    Args:
        names: of the images; may be endless.
        decoded: uint8 (C, H, W), or why there is none; it is closed at the end.
        classify: the answer for each image of a batch, uint8 (N, C, H, W).
        invert: take the negative of each image.
    """
    rows: list[tuple[str, str | None]] = []
    images: list[np.ndarray] = []
    with closing(decoded):
        for name, found in zip(names, decoded, strict=True):
            rows.append((name, found.reason if isinstance(found, BadImage) else None))
            if not isinstance(found, BadImage):
                images.append(255 - found if invert else found)
            # Without the second limit, a long list of bad files would be reported only at its end.
            if len(images) == batch_size or len(rows) == 10 * batch_size:
                yield _make_predictions(rows, images, classify, keep_pixels)
                rows, images = [], []
    if rows:
        yield _make_predictions(rows, images, classify, keep_pixels)


def _make_predictions(
    rows: list[tuple[str, str | None]], images: list[np.ndarray], classify: Classify, keep_pixels: bool
) -> list[Prediction]:
    """A prediction for each row of file and error; `images` holds the files without an error."""
    answers = classify(np.stack(images)) if images else iter(())
    pixels = iter(images if keep_pixels else [None] * len(images))
    return [
        Prediction(file, *next(answers), pixels=next(pixels)) if error is None else Prediction(file, error=error)
        for file, error in rows
    ]


def rank_classes(
    pixels: np.ndarray,
    logits: np.ndarray,
    probabilities: np.ndarray,
    *,
    top: int,
    polarity: str | None = None,
    sets: PredictionSets | None = None,
) -> Iterator[Answer]:
    """The answer for each image, from what a network gives.

    Args:
        pixels: uint8 (N, C, H, W).
        logits, probabilities: float32 (N, K).
        top: how many classes to return for each image.
        polarity: of the training images, as `find_polarity` gives it.
        sets: what decides which classes fit an image.
    """
    turned = has_other_polarity(pixels, polarity).tolist() if polarity else [False] * len(pixels)
    # Sort logits: two probabilities may round to one number. Stable, because argmax takes the first of equals.
    ranked = np.argsort(-logits, axis=1, kind="stable")
    fits: list[list[int]] = [[]] * len(pixels)
    if sets is not None:
        members = np.take_along_axis(sets.find(logits), ranked, 1)
        fits = [row[chosen].tolist() for row, chosen in zip(ranked, members, strict=True)]
    classes = ranked[:, :top]
    shares = np.take_along_axis(probabilities, classes, 1)
    return zip(classes.tolist(), shares.tolist(), turned, fits, strict=True)
