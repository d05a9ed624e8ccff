"""`checkpoints/conformal.npz`: what a run's prediction sets need of its validation images.

The file records the hash of the weights that computed it. If the run is trained further, it no longer applies.
"""

from pathlib import Path

import numpy as np

from cnnbench.metrics.conformal import MOST_CLASSES, Misfit
from cnnbench.runs.temperature import read_weights_hash
from cnnbench.storage.arrays import read_npz, write_npz
from cnnbench.storage.atomic import open_folder
from cnnbench.storage.regular import refuse_damaged

FILE = "conformal.npz"


def read_calibration(run: Path, classes: int) -> tuple[Misfit, np.ndarray] | None:
    """The misfit and the scores (n,) of `PredictionSets` for a run's best weights; None if there are none for these.

    Args:
        classes: of the run.

    Raises:
        ValueError: `conformal.npz` is damaged.
    """
    path = run / "checkpoints" / FILE
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


def write_calibration(run: Path, misfit: Misfit, scores: np.ndarray) -> None:
    """Keep the calibration of prediction sets beside a run's best weights.

    Raises:
        OSError: it cannot be written.
    """
    fitted = {"means": misfit.means, "precisions": misfit.precisions}
    arrays = {name: array for name, array in fitted.items() if array is not None}
    with open_folder(run / "checkpoints") as inside:
        write_npz(inside / FILE, scores=scores, weights_sha256=np.array(str(read_weights_hash(run))), **arrays)
