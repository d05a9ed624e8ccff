"""`checkpoints/temperature.json`: the number that a run's logits are divided by, so that probabilities are calibrated.

The file is sealed, and records the hash of the weights that the temperature was fitted to. If the run is trained
further, the temperature no longer applies.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from cnnbench.metrics.calibration import LEAST_TEMPERATURE, MOST_TEMPERATURE
from cnnbench.storage.arrays import read_safetensors_header
from cnnbench.storage.atomic import open_folder
from cnnbench.storage.plain_data import read_sealed_json, write_sealed_json
from cnnbench.storage.regular import refuse_damaged

FILE = "temperature.json"
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
    """The temperature for a run's best weights; None if there is none for these weights.

    Raises:
        ValueError: `temperature.json` is damaged or has changed since it was written.
    """
    found = find_temperature(run)
    return found.value if found and found.is_current else None


def find_temperature(run: Path) -> Temperature | None:
    """What `temperature.json` says, also if the run's weights have changed since; None if there is no such file.

    Raises:
        ValueError: it is damaged or has changed since it was written.
    """
    path = run / "checkpoints" / FILE
    try:
        values = read_sealed_json(path, KINDS)
    except FileNotFoundError:
        return None
    value, images = values["temperature"], values["images"]
    if not (LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE and images > 0):
        refuse_damaged(path, f"temperature={value!r} of {images} images is impossible")
    return Temperature(value, images, values["weights_sha256"] == read_weights_hash(run))


def write_temperature(run: Path, found: Temperature) -> None:
    """Keep a temperature beside the run's best weights.

    Raises:
        OSError: it cannot be written.
    """
    weights = read_weights_hash(run)
    with open_folder(run / "checkpoints") as inside:
        values = {"temperature": found.value, "images": found.images, "weights_sha256": weights}
        write_sealed_json(inside / FILE, values)


def read_weights_hash(run: Path) -> str | None:
    """The SHA-256 that the best weights record of themselves; None if they are missing or damaged."""
    try:
        header = read_safetensors_header(run / "checkpoints" / "best.safetensors")
        return str(json.loads(header["__metadata__"]["cnnbench"])["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
