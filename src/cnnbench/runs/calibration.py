"""What later commands fit to a run's validation images: a temperature, and the scores of prediction sets.

`checkpoints/temperature.json`, which is sealed, has the number that logits are divided by, so that probabilities are
calibrated. `checkpoints/conformal.npz` has what prediction sets need. Both record the hash of the weights that they
were fitted to: they do not apply to a run that has been trained further.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnbench.metrics.calibration import LEAST_TEMPERATURE, MOST_TEMPERATURE
from cnnbench.metrics.conformal import MOST_CLASSES, Misfit
from cnnbench.runs.folder import BEST_WEIGHTS
from cnnbench.storage.arrays import read_npz, read_safetensors_header, write_npz
from cnnbench.storage.atomic import open_folder
from cnnbench.storage.plain_data import read_sealed_json, write_sealed_json
from cnnbench.storage.regular import refuse_damaged

TEMPERATURE_FILE, SETS_FILE = "temperature.json", "conformal.npz"
KINDS = {"temperature": float, "images": int, "weights_sha256": str}


@dataclass(frozen=True)
class Temperature:
    """A temperature and what it was fitted to.

    Attributes:
        images: how many validation images.
        is_current: whether the run's best weights are still those that it was fitted to.
    """

    value: float
    images: int
    is_current: bool = True


def read_temperature(run: Path) -> float | None:
    """The temperature for a run's best weights; None if there is none for these. Raises as `find_temperature`."""
    found = find_temperature(run)
    return found.value if found and found.is_current else None


def find_temperature(run: Path) -> Temperature | None:
    """What `temperature.json` says, also if the run's weights have changed since; None if there is no such file.

    Raises:
        ValueError: it is damaged or has changed since it was written.
    """
    path = run / "checkpoints" / TEMPERATURE_FILE
    try:
        values = read_sealed_json(path, KINDS)
    except FileNotFoundError:
        return None
    value, images = values["temperature"], values["images"]
    if not (LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE and images > 0):
        refuse_damaged(path, f"temperature={value!r} of {images} images is impossible")
    return Temperature(value, images, values["weights_sha256"] == read_weights_hash(run))


def write_temperature(run: Path, found: Temperature) -> None:
    """Keep a temperature beside the run's best weights."""
    weights = read_weights_hash(run)
    with open_folder(run / "checkpoints") as inside:
        values = {"temperature": found.value, "images": found.images, "weights_sha256": weights}
        write_sealed_json(inside / TEMPERATURE_FILE, values)


def read_weights_hash(run: Path) -> str | None:
    """The SHA-256 that the best weights record of themselves; None if they are missing or damaged."""
    try:
        header = read_safetensors_header(run / BEST_WEIGHTS)
        return str(json.loads(header["__metadata__"]["cnnbench"])["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def read_prediction_sets(run: Path, classes: int) -> tuple[Misfit, np.ndarray] | None:
    """The misfit and the scores (n,) of `PredictionSets` for a run's best weights; None if there are none for these.

    Args:
        classes: of the run.

    Raises:
        ValueError: `conformal.npz` is damaged.
    """
    path = run / "checkpoints" / SETS_FILE
    if not path.is_file():
        return None
    arrays = read_npz(path)
    shapes: dict[str, tuple[int, ...]] = {"scores": arrays.get("scores", np.zeros(0)).shape[:1]}
    if classes <= MOST_CLASSES:
        shapes |= {"means": (classes, classes), "precisions": (classes, classes, classes)}
    for name, shape in shapes.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.float64 or np.isnan(found).any():
            refuse_damaged(path, f"{name} are not numbers of the shape {shape}")
    if str(arrays.get("weights_sha256")) != read_weights_hash(run):
        return None
    return Misfit(arrays.get("means"), arrays.get("precisions")), arrays["scores"]


def write_prediction_sets(run: Path, misfit: Misfit, scores: np.ndarray) -> None:
    """Keep the calibration of prediction sets beside a run's best weights."""
    fitted = {"means": misfit.means, "precisions": misfit.precisions}
    arrays = {name: array for name, array in fitted.items() if array is not None}
    with open_folder(run / "checkpoints") as inside:
        write_npz(inside / SETS_FILE, scores=scores, weights_sha256=np.array(str(read_weights_hash(run))), **arrays)
