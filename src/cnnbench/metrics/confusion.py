"""The confusion matrix: how often each class was taken for each."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Classes up to which all cells of a confusion matrix are stored; 10,000 classes have a hundred million cells.
DENSE = 1_000


def count_confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> "np.ndarray | csr_array":
    """Counts, int64, (num_classes, num_classes): rows true, columns predicted.

    Beyond `DENSE` classes it is a `scipy.sparse.csr_array`, which has the same methods `sum`, `diagonal` and `trace`.

    Args:
        labels, predictions: int64, (N,), each from 0 to num_classes − 1.
    """
    if num_classes <= DENSE:
        # Each pair of classes as one number, the place of its cell.
        cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)
    from scipy.sparse import coo_array  # takes a fifth of a second, and few datasets have so many classes

    ones = np.ones(len(labels), dtype=np.int64)
    return coo_array((ones, (labels, predictions)), shape=(num_classes, num_classes)).tocsr()
