"""The confusion matrix, and every metric that follows from it."""

import cnnbench.metrics as _package
from cnnbench import registry
from cnnbench.metrics.confusion import count_confusion
from cnnbench.metrics.scores import (
    Metric,
    average_f1_of_present,
    compute_f1,
    compute_scores,
    find_metric,
    format_metric,
    list_metrics,
    score_classes,
)

registry.discover(_package)

__all__ = [
    "Metric",
    "average_f1_of_present",
    "compute_f1",
    "compute_scores",
    "count_confusion",
    "find_metric",
    "format_metric",
    "list_metrics",
    "score_classes",
]
