"""Figures of a search: the results of its trials, and the importance of each key."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnbench.metrics import find_metric
from cnnbench.runs.folder import FAILED, FINISHED, PRUNED
from cnnbench.storage.text import format_percent

STYLES = {FINISHED: ("#0072b2", "o", 1.0), PRUNED: ("#d55e00", "X", 0.8)}  # Okabe and Ito, and shapes besides


def draw_search(
    folder: Path, rows: Sequence[Mapping[str, Any]], monitor: str, importances: Mapping[str, float]
) -> None:
    """Draw `history.png` and, if importances are known, `importance.png`; otherwise remove an outdated one."""
    plot_history(rows, monitor).savefig(folder / "history.png", dpi=100)
    path = folder / "importance.png"
    if importances:
        finished = sum(row["state"] == FINISHED for row in rows)
        plot_importance(importances, monitor, finished).savefig(path, dpi=100)
    else:
        path.unlink(missing_ok=True)


def plot_history(rows: Sequence[Mapping[str, Any]], monitor: str) -> Figure:
    """Plot the best epoch of each trial, in order, and the best finished trial so far as a step line.

    Args:
        rows: the rows of `trials.csv`.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    metric = find_metric(monitor)
    factor, unit = metric.factor, " (%)" if metric.percent else ""
    for state, (colour, marker, size) in STYLES.items():
        points = [
            (row["trial"], factor * row[monitor]) for row in rows if row["state"] == state and row[monitor] is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            label = f"{state} ({len(points)})"
            sns.scatterplot(x=x, y=y, ax=axes, label=label, color=colour, marker=marker, s=60 * size)
    finished = [(row["trial"], factor * row[monitor]) for row in rows if row["state"] == FINISHED]
    if finished:
        numbers, values = zip(*finished, strict=True)
        best = list(accumulate(values, max if metric.higher_is_better else min))
        end = rows[-1]["trial"]
        axes.step([*numbers, end], [*best, best[-1]], where="post", color="0.3", linewidth=1.2, label="best so far")
    failed = sum(row["state"] == FAILED for row in rows)
    axes.set(
        xlabel="trial",
        ylabel=f"{monitor}, best epoch{unit}",
        title=f"{len(rows)} trials" + (f", {failed} of them failed (not shown)" if failed else ""),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return figure


def plot_importance(importances: Mapping[str, float], monitor: str, finished: int) -> Figure:
    """Plot a bar for each key: its share of the variance between finished trials."""
    figure = Figure(figsize=(8, 1.4 + 0.4 * len(importances)), layout="constrained")
    axes = figure.subplots()
    colour = STYLES[FINISHED][0]
    bars = sns.barplot(x=list(importances.values()), y=list(importances), ax=axes, color=colour, orient="h")
    axes.bar_label(bars.containers[0], labels=[format_percent(share, 0) for share in importances.values()], padding=3)
    axes.set(
        xlim=(0, 1.15 * max(importances.values())),
        xlabel=f"of the variance of {monitor} (fANOVA)",
        ylabel="",
        title=f"What mattered, by {finished} finished trials" + (": too few to rely on" if finished < 20 else ""),
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure
