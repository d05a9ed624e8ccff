"""Predict images that a program holds, or files, with a finished run."""

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.api.results import Prediction
from cnnbench.cli.inputs import find_images
from cnnbench.cli.predict import Tally
from cnnbench.data.dataset import Split
from cnnbench.data.files.images import BadImage, convert_image
from cnnbench.data.preparation import resize
from cnnbench.data.sets.arrays import convert_images
from cnnbench.experiment.measuring import predict, predictions

log = logging.getLogger("cnnbench")
ACCEPTED = "paths, images of Pillow or arrays"


def predict_images(predictor: predict.Predictor, images: Any, *, top: int, invert: bool) -> list[Prediction]:
    """Predict images in order.

    Args:
        images: a path, an image of Pillow, an array as `convert_images` accepts it, or a sequence of one of these.

    Raises:
        ValueError: there are no images, or something else was passed.
    """
    if isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", 0) == 2:
        images = [images]
    if isinstance(images, Mapping) or not (hasattr(images, "ndim") or isinstance(images, Iterable)):
        raise ValueError(f"images: must be {ACCEPTED}; this is {type(images).__name__}")
    several = images if hasattr(images, "ndim") else list(images)
    if not len(several):
        raise ValueError("images: must hold at least one image")
    unread: list[Prediction] = []
    # A program gets the reason with the prediction, where the command prints it.
    tally = Tally(lambda file, reason: unread.append(Prediction(None, None, file=file, error=reason)))
    if not hasattr(several, "ndim") and all(isinstance(one, str | os.PathLike) for one in several):
        names = find_images([os.fspath(one) for one in several], null=False, complain=tally.fail, leave_out=tally.skip)
        batches = predictor.predict(names, top=top, invert=invert)
        found = _collect(predictor, batches, tally, are_files=True) + unread
        if not found:
            raise ValueError("there are no images in the folders or in the list")
    else:
        numbers = map(str, range(len(several)))
        decoded = _decode(several, predictor)
        batches = predictor.predict_decoded(numbers, decoded, top=top, invert=invert)
        found = _collect(predictor, batches, tally, are_files=False)
    for note in [*predictor.notes, *tally.describe_inverted(predictor.polarity, invert=invert)]:
        log.warning("%s", note)
    return found


def _collect(
    predictor: predict.Predictor,
    batches: Generator[list[predictions.Prediction], None, None],
    tally: Tally,
    *,
    are_files: bool,
) -> list[Prediction]:
    names = predictor.class_names
    found = []
    with closing(batches):  # ends the processes that decode, also after an error
        for one in chain.from_iterable(batches):
            if one.error is None:
                tally.add(one)
            top = tuple((names[number], share) for number, share in zip(one.classes, one.probabilities, strict=True))
            label, probability = top[0] if top else (None, None)
            found.append(Prediction(label, probability, top, one.file if are_files else None, one.error))
    return found


def _decode(images: Any, predictor: predict.Predictor) -> Generator[np.ndarray | BadImage, None, None]:
    """Each image in the size of the network, uint8 (C, H, W)."""
    if hasattr(images, "ndim"):
        yield from _fit_arrays(images, predictor)
        return
    for one in images:
        if isinstance(one, str | os.PathLike):
            raise ValueError("images: must be all paths, or all images in memory")
        if isinstance(one, Image.Image):
            yield convert_image(one, predictor.decoding)
        elif hasattr(one, "ndim"):
            yield from _fit_arrays(one[None], predictor)
        else:
            raise ValueError(f"images: must be {ACCEPTED}; one is {type(one).__name__}")


def _fit_arrays(images: Any, predictor: predict.Predictor) -> Iterator[np.ndarray]:
    pixels, how = convert_images(images), predictor.decoding
    channels, height, width = how.shape
    if pixels.shape[1] == channels:  # torch resizes them, as it did the arrays that a run was trained on
        for chunk in pixels.split(predictor.batch_size):
            yield from resize(Split(chunk, chunk.new_zeros(len(chunk)).long()), height, width).images.numpy()
    elif pixels.shape[1] not in (1, 3, 4):
        raise ValueError(f"images of {pixels.shape[1]} channels: must be 1 or 3, or 4 with transparency")
    else:  # Pillow converts grey and colour, as for files
        for image in pixels.permute(0, 2, 3, 1).squeeze(-1).numpy():
            yield convert_image(Image.fromarray(image), how)
