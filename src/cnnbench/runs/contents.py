"""Write a run's result files, and check them when they are read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.metrics.confusion import DENSE
from cnnbench.storage.arrays import read_npz, write_npz
from cnnbench.storage.atomic import write_text
from cnnbench.storage.csv_tables import format_csv_row, read_csv, read_csv_cells, write_csv
from cnnbench.storage.regular import refuse_damaged

CELLS = ["true class", "predicted class", "count"]  # header of a confusion matrix stored by its cells above 0
MOST_CLASSES = 2**20  # files from strangers choose the size of the matrix
LARGEST_KEPT = 256  # pixels of a side that are accepted; runs store at most 64 (`KEPT_SIDE`)


def read_predictions(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `predictions.npz`.

    Raises:
        ValueError: it is damaged, would need pickle, or its arrays do not belong together.
    """
    path = folder / "predictions.npz"
    arrays = read_npz(path)
    labels, predictions, probabilities = (arrays.get(key) for key in ("labels", "predictions", "probabilities"))
    if labels is None or predictions is None or probabilities is None:
        refuse_damaged(path, "it lacks labels, predictions or probabilities")
    count = labels.size
    # A file from a stranger may hold anything: what is read later relies on these shapes and types.
    if labels.shape != (count,) or predictions.shape != (count,) or probabilities.shape[:-1] != (count,):
        refuse_damaged(path, "labels, predictions and probabilities do not have a row for each image")
    classes, top, number = probabilities.shape[-1], arrays.get("top_classes"), arrays.get("num_classes")
    if top is not None or number is not None:  # many classes: only the likeliest are stored
        if top is None or top.shape != probabilities.shape or number is None or number.shape != ():
            refuse_damaged(path, "it lacks the number of classes, or a class for each probability")
        if number.dtype.kind not in "iu" or number < classes:
            refuse_damaged(path, f"num_classes={number} is not a whole number from {classes}")
        classes = int(number)
    if classes > MOST_CLASSES:
        refuse_damaged(path, f"it has {classes:,} classes: the limit is {MOST_CLASSES:,}")
    for values in (labels, predictions, *([] if top is None else [top])):
        if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() < classes):
            refuse_damaged(path, f"labels and predictions are not whole numbers below its {classes} classes")
    if probabilities.dtype.kind != "f":
        refuse_damaged(path, "probabilities are not floating-point numbers")
    return arrays


def write_evaluation(
    folder: Path,
    *,
    class_names: Sequence[str],
    confusion: Any,
    per_class: Sequence[Mapping[str, Any]],
    labels: np.ndarray,
    predictions: np.ndarray,
    probabilities: np.ndarray,
    top_classes: np.ndarray | None = None,
) -> None:
    """Write a model's result on one split: `confusion_matrix.csv`, `per_class.csv`, `predictions.npz`.

    Args:
        confusion: (K, K) counts, rows true, columns predicted. A sparse one is stored by its cells above 0: the numbers
            of both classes, counted from 0 in the order of `per_class.csv`, and the count.
        labels, predictions: (N,) in dataset order.
        probabilities: (N, K), or (N, T) for the classes in `top_classes`.
        top_classes: (N, T), the likeliest classes of each image; None if all have their probability.
    """
    rows: Iterable[Iterable[Any]]
    if isinstance(confusion, np.ndarray):
        # Lists, not mappings: a class may be called "true", like the first column.
        header = ["true", *class_names]
        rows = ([name, *counts] for name, counts in zip(class_names, confusion.tolist(), strict=True))
    else:
        cells = confusion.tocoo()
        header, rows = CELLS, zip(*(part.tolist() for part in (cells.row, cells.col, cells.data)), strict=True)
    write_text(folder / "confusion_matrix.csv", "".join(map(format_csv_row, [header, *rows])))
    write_csv(folder / "per_class.csv", per_class)
    top = {} if top_classes is None else {"top_classes": top_classes, "num_classes": np.array(len(class_names))}
    arrays = {"labels": labels, "predictions": predictions, "probabilities": probabilities, **top}
    write_npz(folder / "predictions.npz", **arrays)


def read_confusion(folder: Path) -> tuple[list[str], Any]:
    """Class names and the (K, K) counts of `confusion_matrix.csv`; beyond `DENSE` classes, a `scipy.sparse.csr_array`.

    Raises:
        ValueError: neither a square table of counts nor a list of its cells.
    """
    path = folder / "confusion_matrix.csv"
    # A class may have any name, also an empty one, so rows and columns are compared by place.
    header, *rows = read_csv_cells(path) or [[]]
    if header == CELLS:
        names = [row.get("class", "") for row in read_csv(folder / "per_class.csv")]
        return names, _parse_sparse(path, rows, len(names))
    if [row[:1] for row in rows] != [[name] for name in header[1:]] or {len(row) for row in rows} != {len(header)}:
        refuse_damaged(path, "it does not have the same classes as rows and columns")
    try:
        return header[1:], np.array([[_parse_count(cell) for cell in row[1:]] for row in rows], dtype=np.int64)
    except ValueError as error:
        refuse_damaged(path, error)


def _parse_sparse(path: Path, rows: list[list[str]], classes: int) -> Any:
    from scipy.sparse import coo_array  # takes 0.2 s, and few runs have so many classes

    if any(len(row) != len(CELLS) for row in rows):
        refuse_damaged(path, f"a row does not have {', '.join(CELLS)}")
    try:
        cells = np.array([[_parse_count(cell) for cell in row] for row in rows], dtype=np.int64).reshape(-1, len(CELLS))
        true, predicted, counts = cells.T
        matrix = coo_array((counts, (true, predicted)), shape=(classes, classes)).tocsr()
        return matrix.toarray() if classes <= DENSE else matrix
    except ValueError as error:
        refuse_damaged(path, error)


def read_mistakes(folder: Path) -> dict[int, np.ndarray]:
    """Images, uint8 (C, H, W), or signals, float32 (C, L), of `mistakes.npz` by their index in the test split.

    Empty if there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / "mistakes.npz"
    if not path.is_file():
        return {}
    arrays = read_npz(path)
    indices, images = arrays.get("indices"), arrays.get("images")
    if indices is None or images is None or indices.dtype.kind not in "iu" or indices.shape != images.shape[:1]:
        refuse_damaged(path, "it lacks images, or an index for each")
    pictures = images.dtype == np.uint8 and images.ndim == 4 and max(images.shape[2:]) <= LARGEST_KEPT
    if not pictures and not (images.dtype == np.float32 and images.ndim == 3 and np.isfinite(images).all()):
        refuse_damaged(path, f"{images.dtype} of shape {images.shape} are not images or signals that a run keeps")
    if min(images.shape[1:]) < 1 or (len(indices) and indices.min() < 0):
        refuse_damaged(path, "an image is empty, or an index negative")
    return dict(zip(indices.tolist(), images, strict=True))


def _parse_count(cell: str) -> int:
    # 18 digits always fit into 64 bits; int() would also read "1_000" and other scripts' digits.
    if not (cell.isascii() and cell.isdigit() and len(cell) < 19):
        raise ValueError(f"{cell[:40]!r} is not a count")
    return int(cell)
