"""The confusion matrix, and every figure that follows from it."""

import cnnbench.metrics as _package
from cnnbench import registry
from cnnbench.metrics.confusion import confusion_of
from cnnbench.metrics.scores import Shown, per_class, scores, shown_metrics, text_of

registry.discover(_package)

__all__ = ["Shown", "confusion_of", "per_class", "scores", "shown_metrics", "text_of"]
