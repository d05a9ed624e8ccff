"""Repeat a finished run and compare the results with its files: test its weights again, or train it again."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.config.keys import flatten
from cnnbench.config.schema import Config
from cnnbench.experiment.build import Parts
from cnnbench.experiment.measuring.measured_data import MeasuredData
from cnnbench.experiment.measuring.measurement import build_measurement
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.experiment.run import run_job
from cnnbench.processes import signals
from cnnbench.runs.contents import read_confusion, read_predictions
from cnnbench.runs.folder import BEST_WEIGHTS, RunFolder, create_folder
from cnnbench.runs.measured import Contradiction
from cnnbench.storage.arrays import read_npz
from cnnbench.storage.plain_data import write_json
from cnnbench.training import checkpoint
from cnnbench.training.evaluation import Classified, Evaluation

BY_WEIGHTS, BY_TRAINING, BY_DATA = "its weights", "training again", "the data"  # sources of a `Contradiction`
TIMES = {"seconds", "images_per_second", "train_seconds"}  # which no two runs share
ARRAYS = ("predictions.npz", "reconstruction.npz", "mistakes.npz")
RECORDED = ("config", "data", "split")  # parts of a checkpoint's record that follow from config and data


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
        _compare_classes(folder, list(dataset.info.class_names), BY_DATA)
    if found.classified is not None and predictions.is_file():
        _compare_predictions(predictions, found.classified, tolerance)
    elif found.classified is None and losses.is_file():
        stored = read_npz(losses)["losses"]  # as many as there are images, as `check_figures` has checked
        gaps = np.abs(stored - found.losses) / (1 + np.abs(found.losses))
        _compare_nearly(losses, "losses", stored, found.losses, gaps, tolerance)
    else:
        _compare_scores(folder / "summary.json", summary, found, tolerance)


def _check_preparation(trained: Trained, parts: Parts) -> None:
    """Check what the file of the weights records of the images."""
    file, info = trained.folder.path / BEST_WEIGHTS, parts.dataset.info
    if trained.info != info:
        raise Contradiction(file, "the shape and classes of the images", trained.info, BY_DATA, info)
    for name in ("mean", "std"):
        stored, found = getattr(trained, name), getattr(parts.dataset, name)
        if not np.allclose(stored, found, rtol=1e-5, atol=1e-7):
            raise Contradiction(file, f"the {name} of the images", stored, BY_DATA, found)


def _compare_scores(file: Path, summary: Mapping[str, Any], found: Evaluation, tolerance: float) -> None:
    """Compare the scores alone, for a run without its predictions."""
    for name, value in found.compute_scores().items():
        given = summary.get(f"test/{name}")
        # An image more or less is within the tolerance, however few there are.
        margin = tolerance * (1 + abs(value)) if name == "loss" else max(tolerance, 1.5 / len(found.losses))
        if given is not None and not abs(given - value) <= margin:
            raise Contradiction(file, f"test/{name}", given, BY_WEIGHTS, value)


def _compare_predictions(file: Path, found: Classified, tolerance: float) -> None:
    stored, own = read_predictions(file.parent), found.probabilities
    assert own is not None, "the test keeps them"
    if stored["labels"].tolist() != found.labels.tolist():
        raise Contradiction(file, "the labels", "others", BY_DATA, "those of the test images")
    probabilities, predictions = stored["probabilities"], stored["predictions"]
    if probabilities.shape != own.shape:
        raise Contradiction(file, "the shape of probabilities", probabilities.shape, BY_WEIGHTS, own.shape)
    _compare_nearly(file, "probabilities", probabilities, own, np.abs(probabilities - own), tolerance)
    # Rounding may exchange two classes that are about equally likely, so the predictions need not be the same.
    classes = np.arange(own.shape[1])[None] if found.top_classes is None else found.top_classes
    likely = np.where(classes == predictions[:, None], own, -1).max(1)
    wrong = np.flatnonzero(own.max(1) - likely > 2 * tolerance)
    if len(wrong):
        image = int(wrong[0])
        value, own_value = int(predictions[image]), int(found.predictions[image])
        raise Contradiction(file, f"predictions[{image}]", value, BY_WEIGHTS, own_value)


def _compare_nearly(
    file: Path, name: str, stored: np.ndarray, found: np.ndarray, gaps: np.ndarray, tolerance: float
) -> None:
    """Refuse an array whose `gaps` from the one found exceed the tolerance; the message names the largest."""
    if not (gaps <= tolerance).all():  # not `any(gaps > …)`, which a NaN would pass
        worst = tuple(int(place) for place in np.unravel_index(np.argmax(gaps), gaps.shape))
        raise Contradiction(file, _name_value(name, worst), stored[worst].item(), BY_WEIGHTS, found[worst].item())


def train_again(run: RunFolder, config: Config, parts: Parts, *, test: bool) -> None:
    """Train and test a run's config in a temporary folder, which is removed, and compare all but times to the bit.

    Args:
        config: the run's own, perhaps with another place of its data; `parts` are built from it.

    Raises:
        Contradiction: the first difference from the run's files.
        Exception: as `run_job`.
    """
    with signals.defer():  # a signal in between would leave the folder behind
        temporary = tempfile.TemporaryDirectory(prefix="cnnbench-verify-")
    with temporary as place:
        again = RunFolder(create_folder(Path(place) / "run"))
        # A run computes with the number of threads that its folder records.
        write_json(again.path / "env.json", {"torch_threads": run.read_threads()})
        try:
            run_job(config, again.path, [], test=test, parts=parts, draw=lambda pictures, *, wait=True: None)
        except (KeyboardInterrupt, signals.Terminated) as error:
            # Its message would name a command that resumes from the temporary folder.
            raise type(error) from None
        _compare_runs(run, again)


def _compare_runs(run: RunFolder, again: RunFolder) -> None:
    rows, own_rows = run.read_metrics(), again.read_metrics()
    for number, (row, own) in enumerate(zip(rows, own_rows, strict=False), 1):
        _compare_values(run.metrics_file, row, own, f" in epoch {number}")
    if len(rows) != len(own_rows):
        raise Contradiction(run.metrics_file, "the number of epochs", len(rows), BY_TRAINING, len(own_rows))
    (tensors, record), (found, own_record) = (checkpoint.load(one.checkpoints, checkpoint.BEST) for one in (run, again))
    file = checkpoint.locate(run.checkpoints, checkpoint.BEST)
    _compare_all(file, tensors, found)
    for part in RECORDED:
        _compare_values(file, flatten({part: record.get(part)}), flatten({part: own_record.get(part)}))
    for name in ARRAYS:
        if (run.path / name).is_file() and (again.path / name).is_file():  # they may be missing from a run
            _compare_all(run.path / name, read_npz(run.path / name), read_npz(again.path / name))
    _compare_classes(run.path, _read_classes(again.path), BY_TRAINING)
    _compare_values(run.path / "summary.json", run.read_summary(), again.read_summary())


def _compare_values(file: Path, stored: Mapping[str, Any], found: Mapping[str, Any], where: str = "") -> None:
    for key in {**found, **stored}:
        value, own = stored.get(key), found.get(key)
        both_nan = value != value and own != own  # a loss may have been no number
        if key not in TIMES and value != own and not both_nan:
            raise Contradiction(file, f"{key}{where}", value, BY_TRAINING, own)


def _compare_all(file: Path, stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compare arrays or tensors by their names: kinds, shapes and all values."""
    for name in sorted(stored.keys() | found.keys()):
        value, own = stored.get(name), found.get(name)
        kinds = [None if one is None else (str(one.dtype), *one.shape) for one in (value, own)]
        if value is None or own is None or kinds[0] != kinds[1]:
            raise Contradiction(file, f"the type and shape of {name}", kinds[0], BY_TRAINING, kinds[1])
        different = np.asarray((value != own) & ~((value != value) & (own != own)))  # two NaNs are equal
        if different.any():
            place = tuple(np.argwhere(different)[0].tolist())
            raise Contradiction(file, _name_value(name, place), value[place].item(), BY_TRAINING, own[place].item())


def _name_value(array: str, place: Sequence[int]) -> str:
    return f"{array}[{', '.join(map(str, place))}]" if place else array


def _read_classes(folder: Path) -> list[str] | None:
    """The names of the classes in a folder's confusion matrix; None if it has none."""
    return read_confusion(folder)[0] if (folder / "confusion_matrix.csv").is_file() else None


def _compare_classes(folder: Path, found: Sequence[str] | None, source: str) -> None:
    stored = _read_classes(folder)
    if stored is not None and stored != found:
        names = found or []
        different = (pair for pair in zip(stored, names, strict=False) if pair[0] != pair[1])
        value, own = next(different, (len(stored), len(names)))
        raise Contradiction(folder / "confusion_matrix.csv", "the name or the number of classes", value, source, own)
