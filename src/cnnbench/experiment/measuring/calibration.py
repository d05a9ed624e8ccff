"""What is fitted on a finished run's own validation images: the temperature that calibrates its probabilities (Guo et
al., arXiv:1706.04599), and its prediction sets (`metrics.conformal`).
"""

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cnnbench.experiment.data_record import DataRecord, find_seen, read_data
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement, sample_images
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.metrics.calibration import NoTemperature, fit_temperature
from cnnbench.metrics.conformal import Misfit, PredictionSets, find_least_images
from cnnbench.reproducibility import make_generator
from cnnbench.runs.calibration import Temperature, read_prediction_sets, write_prediction_sets
from cnnbench.storage.text import format_path

VALIDATION = "val"
MOST_LOGITS = 2**24  # that determine a temperature: 128 MiB in float64
MOST_FITTED = 2**22  # logits from which the misfit is learned: 32 MB


def calibrate_run(
    path: Path, choice: DataChoice, *, device: str | None = None, batch_size: int | None = None
) -> Temperature:
    """Fit the temperature of a run on its own validation images; the choice only says where they are now.

    Raises:
        ValueError: the run has none, the choice names another dataset, or as `fit_run`.
    """
    if choice.data is not None:
        raise ValueError(f"--calibrate fits on the run's own validation images: leave out --data {choice.data}")
    _require_validation(path, "--calibrate never fits on test images")
    own = replace(choice, split=VALIDATION, exclude=None)
    return fit_run(prepare_measurement(path, own, device=device, batch_size=batch_size))


def fit_run(ready: Measurement) -> Temperature:
    """Fit the temperature of a run on the images to measure.

    Raises:
        ValueError: a network without classes, other images than the run's own, or no temperature fits.
    """
    ready.trained.require_classes(ready.model)
    split = ready.found.split
    record = read_data(ready.trained.folder.path)
    own = record.get(VALIDATION)
    if own and not own.is_same(ready.found.dataset.info, split) and not find_seen(record, [VALIDATION], split).all():
        raise ValueError("--calibrate: --path leads to other images than the run's own validation images")
    most = max(1, MOST_LOGITS // ready.trained.info.num_classes)
    if len(split) > most:  # drawn at random, because the images of a folder are in the order of their classes
        split = split[sample_images(len(split), most, "calibration")]
    try:
        return Temperature(fit_temperature(*ready.compute_logits(split)), len(split))
    except NoTemperature as error:
        raise ValueError(f"--calibrate: no temperature fits the {len(split):,} validation images: {error}") from None


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
        The sets, and notes for those who read them.

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
        found = _fit_sets(ready)
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
    record = _require_validation(path, "--abstain is never calibrated on test images")
    own = DataChoice(split=VALIDATION, root=choice.root)
    try:
        ready = prepare_measurement(path, own, device=device, batch_size=batch_size)
    except ValueError:
        if choice.path is None or choice.data is not None:
            raise
        # The run's folder of images may have moved to the path that is measured.
        moved = replace(own, path=choice.path)
        ready = prepare_measurement(path, moved, device=device, batch_size=batch_size)
        if VALIDATION not in record or not record[VALIDATION].is_same(ready.found.dataset.info, ready.found.split):
            raise ValueError(
                f"--abstain: neither the run's own path nor --path {choice.path} holds the run's validation images"
            ) from None
    ready.trained.require_classes(ready.model)
    return ready


def _require_validation(path: Path, why: str) -> DataRecord:
    """The record of a run's data, which is empty or holds validation images; the error says why they are needed."""
    record = read_data(path)
    if record and VALIDATION not in record:
        raise ValueError(
            f"{format_path(path)} has no validation images (data.val_fraction=0), and {why}: train with "
            "data.val_fraction=0.1"
        )
    return record


def _fit_sets(ready: Measurement) -> tuple[Misfit, np.ndarray]:
    """Learn the misfit from a random half of the validation images, and compute the scores of the other half."""
    split = ready.found.split
    if len(split) < 2:
        return Misfit(), np.zeros(0)
    # The halves must differ: images from which the distances were learned are nearer than new ones.
    order = torch.randperm(len(split), generator=make_generator(0, "prediction sets", len(split)))
    fitted, rest = order[: len(split) // 2], order[len(split) // 2 :]
    few = fitted[: max(1, MOST_FITTED // ready.trained.info.num_classes)]
    misfit = Misfit.fit(*ready.compute_logits(split[few]))
    scores = [
        misfit.measure(logits)[np.arange(len(labels)), labels] for logits, labels in ready.iterate_logits(split[rest])
    ]
    return misfit, np.sort(np.concatenate(scores))
