"""Charts of the classes and mistakes of two groups: F1 of each class, and signals side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnbench.report.formatting import format_change, make_legible
from cnnbench.report.svg import GRID, MARKERS, PAPER, SERIES, Chart, Tips, make_chart, use_page_style
from cnnbench.runs.class_names import shorten_distinctly

SCORED_CLASSES = 30  # of the F1 chart
MOST_SAMPLES = 500  # of a signal, which is about as wide as a thumb


def chart_f1(name: str, labels: tuple[str, str], classes: Sequence[str], scores: Sequence[np.ndarray]) -> Chart:
    """Chart F1 of each class for two groups; of many classes, those that differ most.

    Args:
        scores: two of (seeds, K).
    """
    first, second = (part.mean(0) for part in scores)
    chosen = np.sort(np.argsort(-np.abs(second - first), kind="stable")[:SCORED_CLASSES])
    figure, tips = _draw_f1(labels, [classes[k] for k in chosen], [part[:, chosen] for part in scores])
    rows = [(classes[k], f"{first[k]:.4f}", f"{second[k]:.4f}", format_change(second[k] - first[k], 4)) for k in chosen]
    note = "Marks: mean over the seeds; thin lines: from the lowest seed to the highest."
    if len(chosen) < len(classes):
        note += f" The {len(chosen)} of {len(classes)} classes that differ most."
    header = ("class", *(make_legible(label, 60) for label in labels), "difference")
    return make_chart(figure, name, "F1 of each class", note, header, rows, tips)


def _draw_f1(labels: tuple[str, str], classes: Sequence[str], scores: Sequence[np.ndarray]) -> tuple[Figure, Tips]:
    tips, rows = {}, np.arange(len(classes))
    with use_page_style():
        columns, longest = (2, 40) if max(map(len, labels)) <= 40 else (1, 80)
        figure = Figure(figsize=(6.2, 0.9 + 0.2 * (2 // columns) + 0.21 * len(classes)))
        axes = figure.subplots()
        axes.hlines(rows, scores[0].mean(0), scores[1].mean(0), color=GRID, linewidth=3, zorder=1)
        legend = shorten_distinctly(labels, longest)
        for side, (label, part) in enumerate(zip(labels, scores, strict=True)):
            low, mean, high = part.min(0), part.mean(0), part.max(0)
            gid, colour, height = f"side{side}", SERIES[side], rows + (0.14, -0.14)[side]
            axes.hlines(height, low, high, color=colour, linewidth=1)
            axes.scatter(
                mean, height, marker=MARKERS[side], s=24, color=colour, edgecolor=PAPER, zorder=3, gid=gid,
                label=legend[side],
            )  # fmt: skip
            tips[gid] = [
                f"{label}\n{class_}: F1 {mean[k]:.4f}, seeds {low[k]:.4f} to {high[k]:.4f}, n = {len(part)}"
                for k, class_ in enumerate(classes)
            ]
        axes.set_yticks(rows, shorten_distinctly(classes, 22))
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("F1 of the class")
        figure.legend(loc="outside upper left", ncols=columns)
    return figure, tips


def chart_signals(name: str, title: str, signals: Sequence[np.ndarray], captions: Sequence[str]) -> Chart:
    """Chart signals, each (C, L), side by side: a line per channel, at most as many as there are colours."""
    with use_page_style():
        figure = Figure(figsize=(1.25 * len(signals), 1.2))
        for axes, signal in zip(figure.subplots(1, len(signals), squeeze=False)[0], signals, strict=True):
            step = -(-signal.shape[1] // MOST_SAMPLES)
            for values, colour in zip(signal[:, ::step], SERIES, strict=False):
                axes.plot(values, color=colour, linewidth=0.8)
            axes.set_axis_off()
    header, rows = ("signals, from the left",), [(caption,) for caption in captions]
    return make_chart(figure, name, title, "Each signal has its own vertical scale.", header, rows, {})
