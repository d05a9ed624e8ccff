"""Metrics: what follows from the confusion matrix, and what follows from the probabilities of each image."""

import cnnbench.metrics as _package
from cnnbench import registry
from cnnbench.metrics.calibration import score_probabilities
from cnnbench.metrics.confusion import count_confusion
from cnnbench.metrics.scores import (
    OF_PROBABILITIES,
    ONE_RUN,
    Metric,
    average_f1_of_present,
    compute_accuracy_interval,
    compute_f1,
    compute_scores,
    find_metric,
    format_metric,
    list_metrics,
    score_classes,
)

registry.discover(_package)

__all__ = [
    "OF_PROBABILITIES",
    "ONE_RUN",
    "Metric",
    "average_f1_of_present",
    "compute_accuracy_interval",
    "compute_f1",
    "compute_scores",
    "count_confusion",
    "find_metric",
    "format_metric",
    "list_metrics",
    "score_classes",
    "score_probabilities",
]
