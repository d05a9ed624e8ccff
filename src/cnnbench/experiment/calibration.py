"""Fit the temperature that calibrates a run's probabilities (Guo et al., arXiv:1706.04599), on validation images."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnnbench.data import Split
from cnnbench.experiment.data_record import DataRecord, find_seen, read_data
from cnnbench.experiment.measured_data import DataChoice, MeasuredData
from cnnbench.experiment.trained import Trained
from cnnbench.metrics.calibration import NoTemperature, fit_temperature
from cnnbench.reproducibility import make_generator
from cnnbench.runs.calibration import Temperature
from cnnbench.storage.text import format_path
from cnnbench.training.tasks import get_task

MOST_LOGITS = 2**24  # 128 MiB in float64; of more validation images, as many as fit are drawn
VALIDATION = "val"


def require_validation(path: Path, why: str) -> DataRecord:
    """The record of a run's data, which holds validation images, or is empty.

    Raises:
        ValueError: the run has none; the message gives the reason why it needs them.
    """
    record = read_data(path)
    if record and VALIDATION not in record:
        raise ValueError(
            f"{format_path(path)} has no validation images (data.val_fraction=0), and {why}: train with "
            "data.val_fraction=0.1"
        )
    return record


def choose_validation(path: Path, choice: DataChoice) -> DataChoice:
    """A run's own validation images; the given choice only says where they are now.

    Raises:
        ValueError: the run has none, or the choice names another dataset.
    """
    if choice.data is not None:
        raise ValueError(f"--calibrate fits on the run's own validation images: leave out --data {choice.data}")
    require_validation(path, "--calibrate never fits on test images")
    return replace(choice, split=VALIDATION, exclude=None)


def fit_run(
    trained: Trained,
    model: nn.Module,
    found: MeasuredData,
    iterate_logits: Callable[[Split], Iterator[tuple[np.ndarray, np.ndarray]]],
) -> Temperature:
    """Fit the temperature of a run.

    Args:
        found: the validation images.
        iterate_logits: gives logits and labels of each batch of a split, as `Measurement.iterate_logits` does.

    Raises:
        ValueError: a network without classes, other images than the run's own, or no temperature fits.
    """
    if not get_task(model).has_classes:
        raise ValueError(f"--calibrate: a {get_task(model).name} run has no probabilities")
    record = read_data(trained.folder.path)
    own = record.get(VALIDATION)
    if (
        own
        and not own.is_same(found.dataset.info, found.split)
        and not find_seen(record, [VALIDATION], found.split).all()
    ):
        raise ValueError("--calibrate: --path leads to other images than the run's own validation images")
    split = _draw(found.split, max(1, MOST_LOGITS // trained.info.num_classes))
    logits, labels = (np.concatenate(parts) for parts in zip(*iterate_logits(split), strict=True))
    try:
        return Temperature(fit_temperature(logits, labels), len(split))
    except NoTemperature as error:
        raise ValueError(f"--calibrate: no temperature fits the {len(split):,} validation images: {error}") from None


def _draw(split: Split, most: int) -> Split:
    """A split, or a random sample of it: the images of one's own folder are in the order of their classes."""
    if len(split) <= most:
        return split
    order = torch.randperm(len(split), generator=make_generator(0, "calibration", len(split)))
    return split[order[:most].sort().values]
