"""The charts of classes, for two groups of runs side by side: confusion, and F1 of each class."""

from collections.abc import Callable, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from cnnbench.report.charts import readable
from cnnbench.report.svg import (
    GRID,
    INK,
    MARKERS,
    PAPER,
    SERIES,
    Chart,
    Tips,
    as_percent,
    cell_colours,
    chart,
    drawing,
    legible,
)
from cnnbench.runs.class_names import apart, cells
from cnnbench.storage.text import format_percent

SHOWN_CLASSES = 20  # of a matrix: its cells are counted in squares
SCORED_CLASSES = 30  # of the F1 chart
NUMBERED_CLASSES = 12  # beyond this many a cell is too small for its number
MOST_SAMPLES = 500  # of a signal, which is about as wide as a thumb
NAME = 14  # characters of a class's name inside a chart


def busiest(confusions: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Which classes are shown where there are too many: those with the most mistakes, in their own order."""
    wrong = sum(matrix - np.diag(np.diag(matrix)) for matrix in confusions)
    count = wrong.sum(0) + wrong.sum(1)
    return np.sort(np.argsort(-count, kind="stable")[:most])


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Each count as a share of its row, the true class; a class without images has zeros."""
    return confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


def confusion_chart(name: str, title: str, confusion: np.ndarray, classes: Sequence[str], chosen: np.ndarray) -> Chart:
    """A heatmap of each row's shares in percent.

    Args:
        confusion: (K, K) counts, rows true, columns predicted, summed over the runs of a group.
        chosen: which classes are shown.
    """
    shares = row_shares(confusion)[np.ix_(chosen, chosen)]
    counts = confusion[np.ix_(chosen, chosen)]
    names = [classes[k] for k in chosen]
    tips = [
        f"true {true}, predicted {predicted}: {counts[i, j]:,} ({as_percent(shares[i, j], 1)})"
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    wrong = sorted(
        ((counts[i, j], i, j) for i in range(len(names)) for j in range(len(names)) if i != j and counts[i, j]),
        key=lambda cell: -cell[0],
    )
    rows = [(legible(names[i]), legible(names[j]), f"{n:,}", as_percent(shares[i, j], 1)) for n, i, j in wrong[:15]]
    total, right = int(confusion.sum()), int(np.trace(confusion))
    summary = f"{right:,} of {total:,} predictions are correct" + (
        f"; most often, {rows[0][0]} is taken for {rows[0][1]}, {rows[0][2]} times" if rows else ""
    )
    figure = _matrix(shares, names, (0,), 1.0, 0.005, lambda share: format_percent(share, 0, sign=""))
    note = f"In % of the true class; {right:,} of {total:,} correct. The table lists the most frequent mistakes."
    if len(chosen) < len(classes):
        note += f" Shown are the {len(chosen)} of {len(classes)} classes with the most mistakes."
    header = ("true", "predicted", "images", "of the true class")
    return chart(figure, name, title, summary, note, header, rows, {"cells": tips})


def confusion_difference(
    name: str, first: str, second: str, confusions: tuple[np.ndarray, np.ndarray], classes: Sequence[str],
    chosen: np.ndarray,
) -> Chart:  # fmt: skip
    """How the second group's shares differ from the first's, in percentage points."""
    differences = 100 * (row_shares(confusions[1]) - row_shares(confusions[0]))[np.ix_(chosen, chosen)]
    names = [classes[k] for k in chosen]
    reach = max(float(np.abs(differences).max()), 0.1)
    tips = [
        f"true {true}, predicted {predicted}: {differences[i, j]:+.1f} points"
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    places = np.argsort(-np.abs(differences), axis=None, kind="stable")[:15]
    rows = [
        (legible(names[i]), legible(names[j]), f"{differences[i, j]:+.1f}")
        for i, j in zip(*np.unravel_index(places, differences.shape), strict=True)
        if differences[i, j]
    ]
    summary = (
        f"The largest: true {rows[0][0]}, predicted {rows[0][1]}, {rows[0][2]} points" if rows else "No difference"
    )
    figure = _matrix(differences, names, (2, 1), reach, 0.05, lambda points: f"{points:+.1f}".replace("-", "−"))
    note = (
        f"{legible(second, 60)} minus {legible(first, 60)}, in percentage points of the true class. Purple on the "
        "diagonal and orange beside it are in favour of the former."
    )
    if len(chosen) < len(classes):
        note += f" Shown are the {len(chosen)} of {len(classes)} classes with the most mistakes."
    header = ("true", "predicted", "points")
    return chart(figure, name, "Their difference", summary, note, header, rows, {"cells": tips})


def f1_chart(
    name: str, labels: tuple[str, str], classes: Sequence[str], scores: tuple[np.ndarray, np.ndarray]
) -> Chart:
    """F1 of each class for two groups, a line a class; where there are many, those that differ most.

    Args:
        scores: two of (seeds, K).
    """
    means = [part.mean(0) for part in scores]
    chosen = np.sort(np.argsort(-np.abs(means[1] - means[0]), kind="stable")[:SCORED_CLASSES])
    figure, tips = _draw_f1(labels, [classes[k] for k in chosen], [part[:, chosen] for part in scores])
    rows = [
        (legible(classes[k]), *(f"{mean[k]:.4f}" for mean in means), f"{means[1][k] - means[0][k]:+.4f}")
        for k in chosen
    ]
    summary = f"Lowest for {labels[1]}: {classes[int(means[1].argmin())]}, {means[1].min():.4f}"
    note = "Marks: mean over the seeds; thin lines: from the lowest seed to the highest."
    if len(chosen) < len(classes):
        note += f" The {len(chosen)} of {len(classes)} classes that differ most."
    header = ("class", *(legible(label, 60) for label in labels), "difference")
    return chart(figure, name, "F1 of each class", summary, note, header, rows, tips)


def _draw_f1(labels: tuple[str, str], classes: Sequence[str], scores: Sequence[np.ndarray]) -> tuple[Figure, Tips]:
    tips, rows = {}, np.arange(len(classes))
    with drawing():
        columns, longest = (2, 40) if max(map(len, labels)) <= 40 else (1, 80)
        figure = Figure(figsize=(6.2, 0.9 + 0.2 * (2 // columns) + 0.21 * len(classes)))
        axes = figure.subplots()
        axes.hlines(rows, scores[0].mean(0), scores[1].mean(0), color=GRID, linewidth=3, zorder=1)
        legend = apart(labels, longest)
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
        axes.set_yticks(rows, apart(classes, 22))
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("F1 of the class")
        figure.legend(loc="outside upper left", ncols=columns)
    return figure, tips


def signal_strip(name: str, title: str, signals: Sequence[np.ndarray], captions: Sequence[str]) -> Chart:
    """Signals side by side, a line a channel, at most as many as there are colours.

    Args:
        signals: each (C, L).
    """
    with drawing():
        figure = Figure(figsize=(1.25 * len(signals), 1.2))
        for axes, signal in zip(figure.subplots(1, len(signals), squeeze=False)[0], signals, strict=True):
            step = -(-signal.shape[1] // MOST_SAMPLES)
            for values, colour in zip(signal[:, ::step], SERIES, strict=False):
                axes.plot(values, color=colour, linewidth=0.8)
            axes.set_axis_off()
    note, rows = "Each in its own vertical scale.", [(caption,) for caption in captions]
    return chart(figure, name, title, "; ".join(captions), note, ("signals, from the left",), rows, {})


def _matrix(
    values: np.ndarray,
    names: Sequence[str],
    colours: Sequence[int],
    reach: float,
    least: float,
    write: Callable[[float], str],
) -> Figure:
    """A square heatmap up to `reach`; numbers below `least` are left out, so that the others are seen.

    Args:
        colours: one for values from 0, or two for values that are less and more than 0.
    """
    with drawing():
        side = 1.2 + 0.3 * max(6, len(names))
        figure = Figure(figsize=(side, side))
        axes = figure.subplots()
        shown = apart(names, NAME)
        texts = [[write(v) if abs(v) >= least else "" for v in row] for row in values]
        low = 0.0 if len(colours) == 1 else -reach
        sns.heatmap(
            values, ax=axes, cmap=cell_colours(colours), vmin=low, vmax=reach, square=True, cbar=False,
            linewidths=0.5, linecolor=GRID,
            annot=np.array(texts) if len(names) <= NUMBERED_CLASSES else False, fmt="", annot_kws={"size": 6.5},
            xticklabels=shown, yticklabels=shown,
        )  # fmt: skip
        axes.collections[0].set(gid="cells", clip_on=False)
        if axes.texts:
            readable(axes)
        for text in [text for text in axes.texts if not text.get_text()]:
            text.remove()
        axes.tick_params(axis="x", rotation=0 if max(map(cells, shown)) < 4 else 90, length=0)
        axes.tick_params(axis="y", rotation=0, length=0)
        axes.set_xlabel("predicted class", color=INK)
        axes.set_ylabel("true class", color=INK)
        return figure
