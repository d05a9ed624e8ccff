"""The reliability diagram of a run: how often predictions of each confidence are correct."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cnnbench.metrics import find_metric
from cnnbench.metrics.calibration import BINS, measure_reliability
from cnnbench.runs.figures import TRAIN, VALIDATION

SERIES = {"as trained": (TRAIN, "o", "-"), "calibrated": (VALIDATION, "s", "--")}
NOTE = f"up to {BINS} bins of equally many images"


def plot_reliability(arrays: Mapping[str, np.ndarray], temperature: float | None = None) -> Figure:
    """Accuracy against mean confidence, for bins of images; with a temperature, also after calibration.

    Args:
        arrays: as in `predictions.npz`.
    """
    figure = Figure(figsize=(4.8, 5.0))
    axes = figure.add_axes((0.13, 0.19, 0.84, 0.73))
    temperatures = dict(zip(SERIES, (None, temperature) if temperature else (None,), strict=False))
    lowest, title = 1.0, f"Reliability, {len(arrays['labels']):,} images"
    for name, one in temperatures.items():
        found = measure_reliability(arrays, one)
        if found is None:
            continue
        colour, marker, dashes = SERIES[name]
        filled = found.counts > 0
        confidence, accuracy = found.confidence[filled], found.accuracy[filled]
        lowest = min(lowest, confidence.min(), accuracy.min())
        error = f"ECE {find_metric('ece').format(found.compute_error())}"
        axes.plot(
            100 * confidence, 100 * accuracy, dashes, color=colour, marker=marker, markersize=5,
            label=f"{name}: {error}",
        )  # fmt: skip
        if not temperature:
            title += f", {error}"
    low = 10 * math.floor(10 * min(lowest, 0.9))
    axes.plot([low, 100], [low, 100], color="#666666", linestyle=":", zorder=1, label="perfectly calibrated")
    room = 0.03 * (100 - low)
    limits, ticks = (low - room, 100 + room), np.arange(100, low - 1, -5 if low == 90 else -20)
    # Few ticks and a legend only where it is needed: most of the time goes into drawing text.
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks, xlabel=f"confidence (%), {NOTE}")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title, y=1.0, fontsize=11)
    axes.grid(alpha=0.3)
    if temperature:
        figure.legend(loc="lower center", ncols=2, frameon=False, fontsize=9)
    return figure
