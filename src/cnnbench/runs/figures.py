"""The pictures of a run: confusion matrix, curves, training images, worst mistakes, reconstructions, augmentation."""

# Figures are made without pyplot, which would keep them open, and share a current one among threads.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnbench.metrics import find_metric
from cnnbench.runs.captions import ENGLISH, describe_answer, localize_number
from cnnbench.runs.class_names import Names, count_cells, fit_names
from cnnbench.runs.drawing import draw_input, make_grid, set_limits
from cnnbench.runs.shown_images import find_worst_mistakes
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.text import format_percent

CELLS_WITH_NUMBERS = 20  # with more classes, a cell is too small for its count
MATRIX_CLASSES = 100  # with more, neither cells nor names are legible: bars are drawn instead
CONFUSIONS = 30  # bars in that picture
TRAIN, VALIDATION = "#0072b2", "#d55e00"  # Okabe and Ito: colour-blind readers can tell them apart


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """A heatmap of each row's shares, rows true, columns predicted, with counts above 0 written in up to 20 classes."""
    classes = len(class_names)
    side = min(16.0, 3.0 + 0.36 * classes)
    names = fit_names(class_names)
    numbers = classes <= CELLS_WITH_NUMBERS
    small = 10 if numbers else max(5.0, 10 - classes / 20)
    across = names.width < 4
    # A layout that measures every text would double the time. A letter is about 0.6 of its size wide.
    left = 0.55 + 0.6 * small / 72 * names.width
    bottom = (0.8 if across else left + 0.1) + 0.17 * bool(names.numbered)
    width, height = side + left + 0.7, side + bottom
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, (side - 0.5) / width, (side - 0.5) / height))
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    edges = np.arange(classes + 1) - 0.5
    drawn = axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)  # half the time of an image
    axes.invert_yaxis()
    bar = figure.add_axes(((left + side - 0.3) / width, bottom / height, 0.2 / width, (side - 0.5) / height))
    figure.colorbar(drawn, cax=bar, ticks=[0, 0.5, 1], format=PercentFormatter(1), label="of the true class")
    axes.set_xticks(range(classes), names.shown, rotation=0 if across else 90, fontsize=small, fontfamily=names.fonts)
    axes.set_yticks(range(classes), names.shown, fontsize=small, fontfamily=names.fonts)
    for true, row in enumerate(confusion if numbers else []):
        for predicted, count in enumerate(row):
            if count == 0:
                continue  # most cells of a good run; to write a 0 in each would take half as long again
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, str(count), ha="center", va="center", size=9, color=colour)
    total = int(confusion.sum())
    axes.set(xlabel="\n".join(["predicted class", *names.explain_numbers()]), ylabel="true class")
    # At a fixed height: matplotlib takes as long to find one as to draw the cells. The font fits the narrowest figure.
    title = f"Confusion matrix, {total:,} images, {format_percent(np.trace(confusion) / max(total, 1))} correct"
    axes.set_title(title, y=1.0, fontsize=11)
    return figure


def plot_confused_pairs(confusion: Any, class_names: Sequence[str]) -> Figure:
    """The most frequent confusions as bars, for many classes, whose matrix would be too fine to read.

    Args:
        confusion: (K, K) counts, rows true, columns predicted; dense or sparse.
    """
    true, predicted = confusion.nonzero()
    counts = np.asarray(confusion[true, predicted]).ravel()
    wrong = np.flatnonzero(true != predicted)
    first = wrong[np.argsort(-counts[wrong], kind="stable")][:CONFUSIONS]
    names = fit_names(class_names)
    pairs = [f"{names.shown[t]} → {names.shown[p]}" for t, p in zip(true[first], predicted[first], strict=True)]
    figure = Figure(figsize=(8, 1.6 + 0.22 * len(first)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(first)), counts[first], color=TRAIN)
    axes.set_yticks(range(len(first)), pairs, fontsize=8, fontfamily=names.fonts)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    total = int(confusion.sum())
    axes.set(xlabel="\n".join(["images", *names.explain_numbers()]), ylabel="true class → predicted class")
    correct = format_percent(confusion.trace() / max(total, 1))
    axes.set_title(
        f"{total:,} images of {len(class_names):,} classes, {correct} correct\n"
        f"The {len(first)} most frequent of {len(wrong):,} confusions",
        fontsize=11,
    )
    return figure


def plot_curves(rows: Sequence[Mapping[str, Any]], best_epoch: int = 0, monitor: str = "val/accuracy") -> Figure:
    """Loss and, where there are classes, accuracy against epochs, for training and validation.

    Args:
        rows: as in `metrics.csv`.
        best_epoch: the epoch to mark, if its row has the value that chose it.
        monitor: the metric of that value.
    """
    classes = any("accuracy" in key for key in rows[0])
    drawn = {"loss": "nats", "accuracy": "%"} if classes else {"loss": "mean squared error"}
    chosen = next((row[monitor] for row in rows if row["epoch"] == best_epoch and row.get(monitor) is not None), None)
    width, height = 5 * len(drawn), 4.3
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0.7 / width, right=1 - 0.2 / width, bottom=0.85 / height, top=1 - 0.36 / height)
    places = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (metric, unit) in zip(places, drawn.items(), strict=True):
        factor = 100 if unit == "%" else 1
        for split, label, colour, marker in (("train", "train", TRAIN, "o"), ("val", "validation", VALIDATION, "s")):
            values = [(row["epoch"], row.get(f"{split}/{metric}")) for row in rows]
            points = [(epoch, factor * value) for epoch, value in values if value is not None]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, label=label, color=colour, marker=marker, markeredgecolor="white")
        if chosen is not None:
            shown = find_metric(monitor).format(chosen)
            label = f"best epoch {best_epoch}: {monitor} {shown}"
            axes.axvline(best_epoch, label=label, color="#666666", linestyle=":", zorder=1)
            if monitor == f"val/{metric}":
                axes.plot(
                    best_epoch, factor * chosen, marker="o", markersize=13, markerfacecolor="none", color=VALIDATION
                )
        axes.set(xlabel="epoch", ylabel=f"{metric} ({unit})")
        axes.set_title(metric.capitalize(), y=1.0, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
    # One legend below both never covers a curve; finding a free place inside each takes a sixth of the time.
    known = places[0].get_legend_handles_labels()
    figure.legend(*known, loc="lower center", ncols=3, frameon=False, columnspacing=1.2)
    return figure


def plot_mistakes(
    images: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    words: Mapping[str, str] = ENGLISH,
) -> Figure:
    """The most confident wrong predictions, each with its true class, its prediction and that probability.

    Args:
        images: those of `find_worst_mistakes`, in its order: images, uint8 (M, C, H, W), or signals, float32 (M, C, L),
            each of which fills its place in height.
        predicted: `labels` (N,), `predictions` (N,) and `probabilities`, as in `predictions.npz`.
        words: those of `ENGLISH`, in the reader's language.
    """
    labels, predictions, probabilities = (predicted[key] for key in ("labels", "predictions", "probabilities"))
    worst = find_worst_mistakes(labels, predictions, probabilities)
    names = fit_names(class_names)
    heading = "worst" if images.ndim == 4 else "worst_signals"
    wrong, total = (localize_number(f"{n:,}", words) for n in (np.count_nonzero(labels != predictions), len(labels)))
    found = words[heading].format(shown=len(worst), wrong=wrong, total=total)
    captions = [
        "\n".join(describe_answer(words, names.shown[label], names.shown[prediction], share))
        for label, prediction, share in zip(labels[worst], predictions[worst], probabilities[worst].max(1), strict=True)
    ]
    return _plot_captioned(images, captions, [found, *([words["numbered"]] if names.numbered else [])], names.fonts)


def plot_samples(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], total: int) -> Figure:
    """Some training images with their classes.

    Args:
        images: uint8 (M, C, H, W), or signals, float32 (M, C, L).
        labels: (M,).
        total: how many training images there are.
    """
    names, kind = fit_names(class_names), "images" if images.ndim == 4 else "signals"
    title = f"{len(images)} of {total:,} training {kind}, before augmentation"
    captions = [names.shown[label] for label in labels]
    return _plot_captioned(images, captions, [title, *names.explain_numbers()], names.fonts)


def _plot_captioned(images: np.ndarray, captions: Sequence[str], title: Sequence[str], fonts: Sequence[str]) -> Figure:
    """Images or signals in rows of five, each below its caption."""
    lines = max((text.count("\n") + 1 for text in captions), default=1)
    columns, caption, inches = 5, 0.1 + 0.12 * lines, 1.55  # an image with its margins is one wide
    rows = -(-len(captions) // columns)
    width, height = inches * columns, inches * (1 + caption) * rows
    figure, axes = make_grid(width, height, "\n".join(title), top=0.1 + 0.2 * len(title), margin=0.15)
    for place, text in enumerate(captions):
        x, y = place % columns, place // columns * (1 + caption)
        draw_input(axes, images[place], (x + 0.08, y + 0.08 + caption, 0.84, 0.84))
        size = min(9.0, 175 / max(map(count_cells, text.split("\n"))))  # a longer line would run into its neighbours
        axes.text(x + 0.5, y + caption + 0.04, text, ha="center", va="bottom", fontsize=size, fontfamily=fonts)
    set_limits(axes, columns, max(rows, 1) * (1 + caption))
    return figure


def plot_augmentation(
    title: str, images: np.ndarray, names: Names, variants: np.ndarray, captions: np.ndarray
) -> Figure:
    """A row for each image: the image with its class, then its augmented form in each epoch.

    Args:
        images: uint8, (R, C, H, W), and `names`, the class of each as `shown`.
        variants: uint8, (R, V, C, H, W).
        captions: text, (R, V), below each variant.
    """
    rows, columns = variants.shape[:2]
    lines = max(text.count("\n") + 1 for text in captions.flat)
    caption, gap = 0.08 + 0.14 * lines, 0.12  # in inches, as an image is one wide
    width, height = columns + 1 + gap, (1 + caption) * rows
    title = "\n".join([title, *names.explain_numbers("of the messages")])
    figure, axes = make_grid(width, height, title, top=0.75)
    for row in range(rows):
        texts = [names.shown[row], *captions[row]]
        for column, (image, text) in enumerate(zip([images[row], *variants[row]], texts, strict=True)):
            x, y = column + gap * (column > 0), row * (1 + caption)
            draw_input(axes, image, (x + 0.03, y + 0.03, 0.94, 0.94))
            size = min(7.5, 112 / max(1, *map(count_cells, text.split("\n"))))  # a longer line would meet the next
            axes.text(x + 0.5, y + 0.99, text, ha="center", va="top", fontsize=size, fontfamily=names.fonts)
            if row == 0:
                axes.text(x + 0.5, -0.02, f"epoch {column}" if column else "image", ha="center", fontsize=9)
    set_limits(axes, width, height)
    return figure


def plot_reconstructions(images: np.ndarray, made: np.ndarray, losses: np.ndarray) -> Figure:
    """Pairs of an image and its reconstruction below it: the first test images, then the worst.

    Args:
        images, made: uint8, (N, C, H, W), in the order of `choose_reconstructions`; losses: (N,).
    """
    half = len(images) // 2
    figure = Figure(figsize=(1.2 * half + 1.2, 6.2), layout="constrained")
    figure.suptitle("Reconstructions: test images and, below each, what the model made of it")
    halves = {"first images": slice(0, half), "largest loss": slice(half, None)}
    for axes, (name, part) in zip(figure.subplots(2, 1), halves.items(), strict=True):
        rows = [np.concatenate(list(some[part].transpose(0, 2, 3, 1)), axis=1) for some in (images, made)]
        axes.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=255)
        height, width = images.shape[-2:]
        axes.set(xticks=[width * (place + 0.5) - 0.5 for place in range(half)], yticks=[height * 0.5, height * 1.5])
        axes.set_xticklabels([f"{loss:.3f}" for loss in losses[part]])
        axes.set_yticklabels(["image", "made of it"])
        axes.set(title=name, xlabel="mean squared error, of normalised pixels")
        axes.tick_params(length=0)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Replace a PNG as a whole, and never write through a link that may be there instead."""
    # The lowest compression takes a third of the time and a tenth more space. Not hinting letters saves an eighth of
    # all.
    with write_atomically(path) as file, rc_context({"text.hinting": "none"}):
        figure.savefig(file, dpi=100, format="png", pil_kwargs={"compress_level": 1})
