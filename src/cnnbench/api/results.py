"""The results of a run: predictions, figures of a split, and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Table = Any  # pandas.DataFrame, or list[dict[str, Any]] where pandas is not installed


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        label: the likeliest class; None if the file cannot be read.
        probability: of that class.
        top: the likeliest classes with their probabilities, likeliest first, as many as were requested.
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


def make_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A DataFrame, or without pandas a list with a mapping for each row."""
    try:
        import pandas
    except ImportError:
        return [dict(row) for row in rows]
    return pandas.DataFrame([*rows])


def make_matrix(matrix: Any, names: Sequence[str]) -> Any:
    """A square matrix with names for its rows and columns; without pandas, the matrix alone."""
    try:
        import pandas
    except ImportError:
        return matrix
    dense = matrix if hasattr(matrix, "tolist") else matrix.toarray()  # beyond 1,000 classes it is sparse
    return pandas.DataFrame(dense, pandas.Index(names, name="true"), pandas.Index(names, name="predicted"))
