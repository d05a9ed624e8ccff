"""The test images that both networks, or only one, get wrong; pictures of those that the run folders hold."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cnnbench.report.formatting import format_share, make_legible
from cnnbench.report.runs import Run
from cnnbench.report.svg import SERIES, Chart, make_chart, use_page_style
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.runs.contents import read_mistakes, read_predictions

SHOWN, SHOWN_SIGNALS = 12, 8  # in a strip
MOST_SAMPLES = 500  # of a signal, which is about as wide as a thumb
SMALL = 40  # pixels of the longer side up to which a picture is stored without loss


@dataclass(frozen=True)
class Picture:
    """A test image: its pixels as a data URI, its class, the wrong answers, and its place in the test split."""

    source: str
    alt: str
    true: str
    answers: Sequence[str]
    index: int


@dataclass(frozen=True)
class Strip:
    """Mistakes of one kind: how many there are, and some of them as pictures or as a chart of signals."""

    title: str
    count: str
    images: Sequence[Picture] = field(default_factory=list)
    chart: Chart | None = None
    note: str = ""


def make_strips(name: str, runs: tuple[Run, Run], labels: tuple[str, str], classes: Sequence[str]) -> list[Strip]:
    """Collect the mistakes of both networks, of the first alone, and of the second alone.

    Args:
        name: prefix of the charts' names.
        labels: what the two networks are called.

    Raises:
        ValueError: a file is damaged, or they were not tested on the same images.
    """
    arrays = [read_predictions(run.path) for run in runs]
    truth = arrays[0]["labels"]
    if not np.array_equal(truth, arrays[1]["labels"]):
        raise ValueError("they were not tested on the same images")
    for run, own in zip(runs, arrays, strict=True):
        if own.get("num_classes", own["probabilities"].shape[-1]) != len(classes):
            raise ValueError(f"{run.name}: predictions.npz has other classes than confusion_matrix.csv")
    answers = [own["predictions"] for own in arrays]
    # An image that both get wrong may have been kept by either.
    kept = {index: image for run in runs for index, image in read_mistakes(run.path).items()}
    if len({image.shape for image in kept.values()}) > 1:
        raise ValueError("their mistakes.npz hold images of different sizes")
    short = shorten_distinctly(classes, 18)

    def describe(index: int) -> str:
        words = (f"{label} says {classes[own[index]]}" for label, own in zip(labels, answers, strict=True))
        return "; ".join([f"true {classes[truth[index]]}", *words])

    def make_picture(index: int) -> Picture:
        wrong = dict.fromkeys(short[own[index]] for own in answers if own[index] != truth[index])
        alt = make_legible(f"Test image {index}: {describe(index)}", 400)
        return Picture(encode_picture(kept[index]), alt, short[truth[index]], [*wrong], index)

    def make_strip(kind: str, title: str, mistakes: np.ndarray) -> Strip:
        total = int(mistakes.sum())
        if not total:
            return Strip(title, "none")
        count = f"{total:,} of {len(mistakes):,} test images ({format_share(total / len(mistakes))})"
        found = [index for index in sorted(kept) if index < len(mistakes) and mistakes[index]]
        if not found:
            return Strip(title, count, note="No picture of these is kept in the run folders (mistakes.npz).")
        are_signals = kept[found[0]].ndim == 2
        few = found[: SHOWN_SIGNALS if are_signals else SHOWN]
        note = "" if len(few) == total else f"{len(few)} of {total:,} are shown."
        if are_signals:
            captions = [f"signal {index}: {describe(index)}" for index in few]
            chart = chart_signals(f"{name}-{kind}", title, [kept[index] for index in few], captions)
            return Strip(title, count, chart=chart, note=note)
        return Strip(title, count, list(map(make_picture, few)), note=note)

    first, second = (own != truth for own in answers)
    return [
        make_strip("both", "Both are wrong", first & second),
        make_strip("first", f"Only {make_legible(labels[0], 60)} is wrong", first & ~second),
        make_strip("second", f"Only {make_legible(labels[1], 60)} is wrong", second & ~first),
    ]


def encode_picture(image: np.ndarray) -> str:
    """An image, uint8 (C, H, W), as a data URI: a small one as PNG, a larger one as JPEG."""
    # An image that is neither grey nor colour is shown by its first channel.
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    form = "PNG" if max(image.shape[1:]) <= SMALL else "JPEG"
    options = {"optimize": True} if form == "PNG" else {"quality": 82}
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


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
