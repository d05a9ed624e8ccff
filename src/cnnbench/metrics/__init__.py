"""The confusion matrix, and every figure that follows from it."""

import cnnbench.metrics as _package
from cnnbench import registry
from cnnbench.metrics.confusion import add_to_confusion, new_confusion
from cnnbench.metrics.scores import per_class, scores

registry.discover(_package)

__all__ = ["add_to_confusion", "new_confusion", "per_class", "scores"]
