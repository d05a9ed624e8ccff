"""Measure a finished run's best weights on a split of its own or another dataset, and write the figures beside it."""

import json
import os
import re
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.contents import digest
from cnnbench.experiment.measuring.calibration import VALIDATION, calibrate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement
from cnnbench.experiment.result_files import write_result_files
from cnnbench.metrics import average_f1_of_present, compute_accuracy_interval, score_probabilities
from cnnbench.metrics.conformal import PredictionSets, score_sets
from cnnbench.metrics.ranking import RANKED_CLASSES
from cnnbench.runs.calibration import Temperature, write_temperature
from cnnbench.runs.checking import find_contradiction
from cnnbench.runs.folder import refuse_other_content, refuse_unwritable
from cnnbench.runs.pictures import draw_in_turn
from cnnbench.storage.atomic import open_folder
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.text import format_path
from cnnbench.training.evaluation import Evaluation

TOO_MANY = (
    "only the probabilities of each image's likeliest classes are kept: there is no Brier score, nor any figure after "
    "calibration, and the loss is the NLL"
)
FITTED_ON_THESE = "the temperature was fitted on these images: the figures after calibration are better than on others"


def evaluate_run(
    path: Path,
    choice: DataChoice | None = None,
    *,
    device: str | None = None,
    batch_size: int | None = None,
    out: Path | None = None,
    calibrate: bool = False,
    sets: PredictionSets | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Measure a run's best weights on a split, and write the figures beside the run.

    Args:
        choice: None is the run's own test split.
        out: where the figures go; None is a folder in the run's `evaluations` that holds no other result.
        calibrate: first fit a temperature on the run's validation images; it is kept beside the weights.
        sets: prediction sets to measure too.

    Returns:
        The folder written to and the metrics, with `notes` for their reader.

    Raises:
        ValueError: not a finished run, no such split, other classes, none of the run's images, or nowhere to write; or
            no temperature can be fitted. Nothing has been written then.
    """
    choice = choice or DataChoice()
    ready = prepare_measurement(path, choice, device=device, batch_size=batch_size)
    config, found, dataset = ready.trained.config, ready.found, ready.found.dataset
    fitted = calibrate_run(path, choice, device=device, batch_size=batch_size) if calibrate else None
    temperature, notes = (fitted, []) if fitted else ready.trained.read_temperature()
    measured = ready.evaluate(ready.serve(found.split), keep_probabilities=True)
    where = {} if choice.path is None else {"path": format_path(os.path.expanduser(choice.path))}
    metrics = {"data": config.data.name, **where, "split": choice.split, "images": len(found.split)}
    metrics |= _compute_scores(measured, temperature)
    metrics |= {} if found.is_listed is None else _measure_rest(ready, found.is_listed)
    notes += _note_probabilities(measured, temperature, choice)
    if sets is not None:
        metrics |= {"abstain": sets.miss, **_measure_sets(ready, sets)}
    if problem := find_contradiction(ready.trained.folder):
        notes.append(f"{problem}. Do not trust the figures in the run's folder; those here are measured again")
    metrics |= {"images_sha256": digest(dataset.info, found.split), "notes": [*found.notes, *notes]}

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = write_result_files(
            folder, measured, found.split, dataset, model=ready.model, serve=ready.serve,
            most_curves=RANKED_CLASSES, temperature=temperature.value if temperature else None,
        )  # fmt: skip
        draw_in_turn(pictures)
        write_json(folder / "metrics.json", metrics)

    folder = _write_result(ready.trained.folder.path / "evaluations", out, metrics, write)
    if fitted:  # last, so that a command that fails leaves the run uncalibrated
        write_temperature(path, fitted)
    return folder, metrics


def _compute_scores(measured: Evaluation, temperature: Temperature | None = None) -> dict[str, Any]:
    """Every figure of an evaluation; with a temperature, those of the probabilities also after calibration."""
    scores: dict[str, Any] = measured.compute_scores()
    found = measured.classified
    if found is None:
        return scores
    # Only classes that have images get a score; the others can still be predicted.
    scores["f1_macro"] = average_f1_of_present(found.confusion)
    scores |= compute_accuracy_interval(found.confusion)
    if temperature is not None:
        scores |= {"temperature": temperature.value, "temperature_images": temperature.images}
        calibrated = score_probabilities(vars(found), temperature.value)
        scores |= {f"calibrated/{name}": value for name, value in calibrated.items()}
    return scores


def _note_probabilities(measured: Evaluation, temperature: Temperature | None, choice: DataChoice) -> list[str]:
    if measured.classified is None:
        return []
    notes = [] if measured.classified.top_classes is None else [TOO_MANY]
    is_own = choice.split == VALIDATION and choice.data is None and choice.path is None
    return [*notes, FITTED_ON_THESE] if temperature and is_own else notes


def _measure_rest(ready: Measurement, listed: Tensor) -> dict[str, Any]:
    """The number of listed images, and the figures of the measured split without them."""
    rest = ready.found.split[torch.nonzero(~listed).flatten()]
    if not len(rest):
        raise ValueError("--exclude: the list names all images of the split, so none is left to measure")
    scores = _compute_scores(ready.evaluate(ready.serve(rest)))
    return {"excluded": int(listed.sum()), "without_excluded": {"images": len(rest), **scores}}


def _measure_sets(ready: Measurement, sets: PredictionSets) -> dict[str, float]:
    sizes, covered = [], []
    for logits, labels in ready.iterate_logits(ready.found.split):
        members = sets.find(logits)
        sizes.append(members.sum(1))
        covered.append(members[np.arange(len(labels)), labels])
    return score_sets(np.concatenate(sizes), np.concatenate(covered))


def _write_result(
    evaluations: Path, out: Path | None, metrics: Mapping[str, Any], write: Callable[[Path], None]
) -> Path:
    """Write a result to `out`, or to its own folder in `evaluations`; return the folder."""
    with refuse_unwritable(out or evaluations):
        if out is None:
            parts = [metrics["data"], metrics["split"]]
            if "path" in metrics:
                parts.insert(1, re.sub(r"[^\w.-]+", "_", Path(metrics["path"]).absolute().name))
            evaluations.mkdir(exist_ok=True)
            with open_folder(evaluations) as inside:  # refuses a link that would lead out of the run's folder
                write(folder := _find_free(inside, "_".join(parts), metrics))
            return evaluations / folder.name
        if not _has_result(out, metrics):
            refuse_other_content(out)
        write(out)
        return out


def _find_free(folder: Path, name: str, metrics: Mapping[str, Any]) -> Path:
    """A folder of this name, with a number appended if the name holds the result of another measurement."""
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    places = (folder / name for name in names)
    return next(place for place in places if not (place / "metrics.json").exists() or _has_result(place, metrics))


def _has_result(place: Path, metrics: Mapping[str, Any]) -> bool:
    """Whether the folder already holds the result of the same measurement."""
    try:
        # Perhaps with fewer figures: by an earlier version, or from before the run was calibrated.
        earlier, now = read_json(place / "metrics.json"), json.loads(json.dumps(metrics))
        return bool(earlier) and earlier == {key: now.get(key) for key in earlier}
    except (ValueError, OSError, TypeError):
        return False
