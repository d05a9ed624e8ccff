"""Train a finished run again in a temporary folder, and compare the results to the bit."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.config.keys import flatten
from cnnbench.config.schema import Config
from cnnbench.experiment.build import Parts
from cnnbench.experiment.run import run_job
from cnnbench.processes import signals
from cnnbench.runs.contents import read_confusion
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.runs.measured import Contradiction
from cnnbench.storage.arrays import read_npz
from cnnbench.storage.plain_data import write_json
from cnnbench.training import checkpoint

AGAIN = "training again"
TIMES = {"seconds", "images_per_second", "train_seconds"}  # which no two runs share
ARRAYS = ("predictions.npz", "reconstruction.npz", "mistakes.npz")
RECORDED = ("config", "data", "split")  # parts of a checkpoint's record that follow from config and data


def train_again(run: RunFolder, config: Config, parts: Parts, *, test: bool) -> None:
    """Train and test a run's config in a temporary folder, which is removed, and compare what comes out.

    Args:
        config: the run's own, perhaps with another place of its data.
        parts: built from the config.
        test: as in `run_job`.

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
        compare_runs(run, again)


def compare_runs(run: RunFolder, again: RunFolder) -> None:
    """Compare a run with another one of the same config, to the bit but for times.

    Files that may be missing from a run (predictions, images of mistakes) are compared where it has them.

    Raises:
        Contradiction: the first difference.
    """
    _compare_epochs(run, again)
    (tensors, record), (own, own_record) = (checkpoint.load(one.checkpoints, checkpoint.BEST) for one in (run, again))
    file = checkpoint.locate(run.checkpoints, checkpoint.BEST)
    for name in sorted(tensors.keys() | own.keys()):
        compare_arrays(file, name, tensors.get(name), own.get(name))
    for part in RECORDED:
        _compare_values(file, flatten({part: record.get(part)}), flatten({part: own_record.get(part)}))
    for name in ARRAYS:
        if (run.path / name).is_file() and (again.path / name).is_file():
            stored, found = read_npz(run.path / name), read_npz(again.path / name)
            for array in sorted(stored.keys() | found.keys()):
                compare_arrays(run.path / name, array, stored.get(array), found.get(array))
    compare_class_names(run.path, read_confusion(again.path)[0] if has_confusion(again.path) else None, AGAIN)
    _compare_values(run.path / "summary.json", run.read_summary(), again.read_summary())


def _compare_epochs(run: RunFolder, again: RunFolder) -> None:
    rows, own_rows = run.read_metrics(), again.read_metrics()
    for number, (row, own) in enumerate(zip(rows, own_rows, strict=False), 1):
        _compare_values(run.metrics_file, row, own, f" in epoch {number}")
    if len(rows) != len(own_rows):
        raise Contradiction(run.metrics_file, "the number of epochs", len(rows), AGAIN, len(own_rows))


def _compare_values(file: Path, stored: Mapping[str, Any], found: Mapping[str, Any], where: str = "") -> None:
    for key in {**found, **stored}:
        value, own = stored.get(key), found.get(key)
        both_nan = value != value and own != own  # a loss may have been no number
        if key not in TIMES and value != own and not both_nan:
            raise Contradiction(file, f"{key}{where}", value, AGAIN, own)


def compare_arrays(file: Path, name: str, stored: Any, found: Any) -> None:
    """Compare two arrays or tensors; None stands for one that is missing.

    Raises:
        Contradiction: they differ in kind, shape or a value, the first of which is named.
    """
    kinds = [None if one is None else (str(one.dtype), *one.shape) for one in (stored, found)]
    if kinds[0] != kinds[1]:
        raise Contradiction(file, f"the type and shape of {name}", kinds[0], AGAIN, kinds[1])
    different = np.asarray((stored != found) & ~((stored != stored) & (found != found)))
    if different.any():
        place = tuple(np.argwhere(different)[0].tolist())
        figure = f"{name}[{', '.join(map(str, place))}]" if place else name
        raise Contradiction(file, figure, stored[place].item(), AGAIN, found[place].item())


def has_confusion(folder: Path) -> bool:
    """Whether a folder holds a confusion matrix, and so the names of the classes."""
    return (folder / "confusion_matrix.csv").is_file()


def compare_class_names(folder: Path, names: Any, source: str) -> None:
    """Compare the names of the classes in `confusion_matrix.csv`, if the folder has one, with others.

    Raises:
        Contradiction: they differ.
    """
    if has_confusion(folder) and (stored := read_confusion(folder)[0]) != names:
        different = (pair for pair in zip(stored, names or [], strict=False) if pair[0] != pair[1])
        value, found = next(different, (len(stored), len(names or [])))
        raise Contradiction(folder / "confusion_matrix.csv", "the name or the number of classes", value, source, found)
