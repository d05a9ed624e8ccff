"""What a run gives back: predictions, and figures of a split."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        label: the likeliest class; None if the file cannot be read.
        probability: of that class.
        top: the likeliest classes with their probabilities, likeliest first, as many as were asked for.
        file: the path of the image; None if it was given in memory.
        error: why the file cannot be read.
    """

    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    file: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run on a split; `evaluation["accuracy"]` is one of them.

    Attributes:
        metrics: by name, as in `metrics.json`.
        folder: holds them, the predictions and the pictures.
        notes: what a reader of the figures must know.
    """

    metrics: dict[str, Any]
    folder: Path
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.metrics[name]
