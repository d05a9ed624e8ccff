"""How well a run's probabilities rank images, and how far they can be trusted: ROC curves, reliability diagram."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnbench.metrics import find_metric
from cnnbench.metrics.calibration import BINS, measure_reliability
from cnnbench.metrics.ranking import Ranking
from cnnbench.runs.class_names import fit_names
from cnnbench.runs.figures import TRAIN, VALIDATION

LINES = ("-", "--", ":", "-.")  # so that ten classes differ in more than colour
SERIES = {"as trained": (TRAIN, "o", "-"), "calibrated": (VALIDATION, "s", "--")}
NOTE = f"up to {BINS} bins of equally many images"


def plot_rankings(rankings: Sequence[Ranking], class_names: Sequence[str]) -> Figure:
    """The curves of each class against the rest, with their areas; a class without images has none."""
    names = fit_names(class_names)
    width, height, legend = 9.4, 4.5, 0.3 + 0.22 * -(-len(rankings) // 2)
    figure = Figure(figsize=(width, height + legend))
    bottom = (0.6 + legend) / (height + legend)
    figure.subplots_adjust(left=0.7 / width, right=1 - 0.2 / width, bottom=bottom, top=1 - 0.4 / (height + legend))
    roc, precision_recall = figure.subplots(1, 2)
    for number, (found, name) in enumerate(zip(rankings, names.shown, strict=True)):
        if not found.positives or not found.negatives:
            continue
        style = {"color": f"C{number % 10}", "linestyle": LINES[number % len(LINES)]}
        x, y = (np.concatenate([[0.0], rate]) for rate in (found.false_positive_rate, found.sensitivity))
        # The areas come first, because matplotlib leaves labels that start with an underscore out of a legend.
        roc.plot(x, y, label=f"{found.roc_auc:.4f}, {found.average_precision:.4f}: {name}", **style)
        precision = np.concatenate([found.precision[:1], found.precision])
        precision_recall.step(y, precision, where="pre", **style)
    roc.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)  # guessing
    roc.set(xlabel="1 − specificity (false positive rate)", ylabel="sensitivity (recall)")
    precision_recall.set(xlabel="sensitivity (recall)", ylabel="precision")
    for axes, title in ((roc, "ROC"), (precision_recall, "Precision and recall")):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_title(title, y=1.0, loc="left")
        axes.grid(alpha=0.3)
    title = "\n".join(["each class against the rest: area under ROC, average precision", *names.explain_numbers()])
    known = roc.get_legend_handles_labels()
    figure.legend(*known, loc="lower center", ncols=2, frameon=False, title=title, prop={"family": names.fonts})
    return figure


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
