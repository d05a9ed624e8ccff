"""Run folders as training leaves them, without the training."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.metrics import compute_scores, score_classes
from cnnbench.runs.contents import write_evaluation
from cnnbench.runs.folder import FINISHED, RunFolder
from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import write_json

CLASSES = ("0", "1", "2", "3")
BASIS: dict[str, Any] = {
    "model": {"name": "lenet5", "width": 1.0, "depth": 1},
    "data": {"name": "digits", "root": "data"},
    "optimizer": {"name": "adam", "lr": 0.001},
    "trainer": {"epochs": 3, "batch_size": 64},
}


def labels_of(images: int) -> np.ndarray:
    """As many test labels."""
    return np.random.default_rng(0).integers(0, len(CLASSES), images)


def write_run(
    path: Path,
    seed: int,
    right: int | np.ndarray | None = 900,
    *,
    images: int = 1000,
    state: str = FINISHED,
    test_set: str = "a" * 64,
    epochs: tuple[float, ...] = (0.5, 0.8, 0.9),
    message: str = "",
    **changes: Any,
) -> RunFolder:
    """A run folder.

    Args:
        right: how many test images it classifies correctly, or which; None: a run without classes.
        epochs: training accuracy by epoch.
        changes: of the config, with `__` for the dot.
    """
    path.mkdir(parents=True)
    run = RunFolder(path)
    config = {key: dict(values) for key, values in BASIS.items()}
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        if leaf:
            config.setdefault(section, {})[leaf] = value
    top = {key: value for key, value in changes.items() if "__" not in key}
    run.start({"seed": seed, "name": "x", **config, **top}, [f"seed={seed}"])
    write_json(path / "env.json", {"torch": "2", "cnnbench": "0.1.0"})
    write_csv(
        path / "metrics.csv",
        [{"epoch": epoch, "train/accuracy": value} for epoch, value in enumerate(epochs, 1)],
    )
    if state == FINISHED:
        measured = {} if right is None else _evaluation(run, right, images)
        run.write_summary(
            {
                "model": config["model"]["name"],
                "data": config["data"]["name"],
                "seed": seed,
                **{"parameters": 1234, "macs": 5678, "receptive_field": 16, "depth": 5, "epochs": 3, "best_epoch": 3},
                **{"test/loss": 0.25, "test_labels_sha256": test_set},
                **measured,
                **{"train_seconds": 2.0 + seed, "images_per_second": 1000.0, "device": "cpu"},
                **{"test_images": images, "test_set_sha256": test_set},
            }
        )
    run.set_status(state, message)
    return run


def _evaluation(run: RunFolder, right: int | np.ndarray, images: int) -> dict[str, Any]:
    labels = labels_of(images)
    correct = np.arange(images) < right if isinstance(right, int) else right
    predictions = np.where(correct, labels, (labels + 1) % len(CLASSES))
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    write_evaluation(
        run.path,
        class_names=CLASSES,
        confusion=confusion,
        per_class=score_classes(confusion, CLASSES),
        labels=labels,
        predictions=predictions,
        probabilities=np.full((images, len(CLASSES)), 0.25, dtype=np.float32),
    )
    measured = {f"test/{name}": value for name, value in compute_scores(confusion).items()}
    hashed = hashlib.sha256(labels.astype(np.int64).tobytes()).hexdigest()
    return measured | {"test/loss": float(np.log(len(CLASSES))), "test_labels_sha256": hashed}
