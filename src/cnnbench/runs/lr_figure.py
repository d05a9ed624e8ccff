"""The picture of a learning-rate range test."""

import numpy as np
from matplotlib.figure import Figure

from cnnbench.runs.figures import TRAIN, VALIDATION

ROOM = 1.15  # of the picture above the loss at the start, which hides what divergence looks like in full


def plot_lr_range(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, found: tuple[float, float, float] | None
) -> Figure:
    """The training loss against the learning rate of each step.

    Args:
        rates, losses, smoothed: (N,).
        found: the suggestion and the ends of its range, which are marked; None if there is none.
    """
    figure = Figure(figsize=(6.4, 4.3))
    axes = figure.add_axes((0.11, 0.22, 0.86, 0.7))
    axes.plot(rates, losses, ".", color=TRAIN, alpha=0.4, markersize=4, label="loss of a step")
    axes.plot(rates, smoothed, color=TRAIN, label="smoothed")
    if found is not None:
        rate, low, high = found
        axes.axvspan(low, high, color=VALIDATION, alpha=0.15, linewidth=0, label=f"range {low:.2g} to {high:.2g}")
        axes.axvline(rate, color=VALIDATION, linestyle="--", label=f"suggestion {rate:.2g}")
    top = ROOM * float(np.nanmax(smoothed[: max(1, len(smoothed) // 2)]))
    bottom = float(np.nanmin(losses))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", xlim=(rates[0], rates[-1]))
    axes.set_ylim(bottom - 0.05 * (top - bottom), top)
    axes.set_title("Learning-rate range test", y=1.0, fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="lower center", ncols=4, frameon=False, fontsize=9)
    return figure
