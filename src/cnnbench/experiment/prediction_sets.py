"""Calibrate a finished run's prediction sets on its own validation images."""

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from cnnbench.experiment.calibration import VALIDATION, require_validation
from cnnbench.experiment.evaluate import Measurement, prepare_measurement
from cnnbench.experiment.measured_data import DataChoice
from cnnbench.experiment.trained import load_trained
from cnnbench.metrics.conformal import Misfit, PredictionSets, find_least_images
from cnnbench.reproducibility import make_generator
from cnnbench.runs.calibration import read_prediction_sets, write_prediction_sets
from cnnbench.training.tasks import get_task

MOST_FITTED = 2**22  # logits from which the misfit is learned: 32 MB


def find_prediction_sets(
    path: Path,
    miss: float,
    choice: DataChoice | None = None,
    *,
    classes: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> tuple[PredictionSets, list[str]]:
    """The prediction sets of a run: as kept beside its weights, else calibrated on its validation images and kept.

    Args:
        miss: the largest share of images whose set may miss the true class.
        choice: its `root` and `path` say where the run's data are now, if they have moved.
        classes: how many the run has; None reads its checkpoint for the number.

    Returns:
        The sets, and notes that a reader must know.

    Raises:
        ValueError: `miss` is not between 0 and 1; no validation images, or not those of the run; no classes.
    """
    if not 0 < miss < 1:
        raise ValueError(f"--abstain {miss:g}: must be above 0 and below 1, such as 0.05")
    notes: list[str] = []
    found = read_prediction_sets(path, classes or load_trained(path).info.num_classes)
    if found is None:
        ready = _prepare_validation(path, choice or DataChoice(), device, batch_size)
        notes += ready.found.notes
        found = _calibrate(ready)
        if len(found[1]):
            with suppress(OSError):  # the folder cannot be written: the next command calibrates again
                write_prediction_sets(path, *found)
    sets = PredictionSets(*found, miss)
    if sets.threshold == math.inf:
        notes.append(
            f"every class is in every set: {len(sets.scores):,} validation images calibrate the sets, half of all, and "
            f"--abstain {miss:g} needs {find_least_images(miss):,}"
        )
    return sets, notes


def _prepare_validation(path: Path, choice: DataChoice, device: str | None, batch_size: int | None) -> Measurement:
    record = require_validation(path, "--abstain is never calibrated on test images")
    own = DataChoice(split=VALIDATION, root=choice.root)
    try:
        ready = prepare_measurement(path, own, device=device, batch_size=batch_size)
    except ValueError:
        if choice.path is None or choice.data is not None:
            raise
        # The run's folder of images may have moved to the path that is measured.
        moved = DataChoice(split=VALIDATION, root=choice.root, path=choice.path)
        ready = prepare_measurement(path, moved, device=device, batch_size=batch_size)
        if VALIDATION not in record or not record[VALIDATION].is_same(ready.found.dataset.info, ready.found.split):
            raise ValueError(
                f"--abstain: neither the run's own path nor --path {choice.path} holds the run's validation images"
            ) from None
    if not get_task(ready.model).has_classes:
        raise ValueError(f"--abstain: a {get_task(ready.model).name} run has no classes")
    return ready


def _calibrate(ready: Measurement) -> tuple[Misfit, np.ndarray]:
    """Learn the misfit from half of the validation images, drawn at random, and compute the scores of the other half.

    The halves must differ: images that have formed the distances are nearer than new ones.
    """
    split = ready.found.split
    if len(split) < 2:
        return Misfit(), np.zeros(0)
    order = torch.randperm(len(split), generator=make_generator(0, "prediction sets", len(split)))
    fitted, rest = order[: len(split) // 2], order[len(split) // 2 :]
    classes = ready.trained.info.num_classes
    few = split[fitted[: max(1, MOST_FITTED // classes)]]
    misfit = Misfit.fit(*(np.concatenate(parts) for parts in zip(*ready.iterate_logits(few), strict=True)))
    scores = [
        misfit.measure(logits)[np.arange(len(labels)), labels] for logits, labels in ready.iterate_logits(split[rest])
    ]
    return misfit, np.sort(np.concatenate(scores))
