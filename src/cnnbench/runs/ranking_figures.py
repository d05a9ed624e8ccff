"""The picture of how well a run's probabilities rank images: ROC and precision–recall curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnbench.metrics.ranking import Ranking
from cnnbench.runs.class_names import fit_names

LINES = ("-", "--", ":", "-.")  # so that ten classes differ in more than colour


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
