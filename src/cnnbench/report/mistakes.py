"""Which test images two networks get wrong, both or one alone, and those of them that their folders kept."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cnnbench.report.class_charts import signal_strip
from cnnbench.report.runs import Run
from cnnbench.report.svg import Chart, as_percent, legible
from cnnbench.runs.class_names import apart
from cnnbench.runs.contents import read_mistakes

SHOWN, SHOWN_SIGNALS = 12, 8  # in a strip
SMALL = 40  # pixels of a side up to which a picture is kept to the bit


@dataclass(frozen=True)
class Picture:
    """A test image: its pixels as a data URI, its class, what it is taken for, and its place in the test split."""

    source: str
    alt: str
    true: str
    taken: Sequence[str]
    index: int


@dataclass(frozen=True)
class Strip:
    """Mistakes of one kind: how many there are, and some of them."""

    title: str
    count: str
    images: Sequence[Picture] = field(default_factory=list)
    chart: Chart | None = None
    note: str = ""


@dataclass(frozen=True)
class Answers:
    """What two networks said of the same test images.

    Attributes:
        labels: how the networks are called.
        classes: names.
        truth: (N,); said: two of (N,), class numbers.
    """

    labels: tuple[str, str]
    classes: Sequence[str]
    truth: np.ndarray
    said: tuple[np.ndarray, np.ndarray]

    def true(self, index: int) -> str:
        """The class of an image."""
        return self.classes[self.truth[index]]

    def taken(self, index: int) -> list[str]:
        """What it is wrongly taken for, by the first and the second network; once, where they agree."""
        wrong = dict.fromkeys(int(part[index]) for part in self.said if part[index] != self.truth[index])
        return [self.classes[k] for k in wrong]

    def told(self, index: int) -> str:
        """The same in a sentence."""
        said = (f"{label} says {self.classes[part[index]]}" for label, part in zip(self.labels, self.said, strict=True))
        return "; ".join([f"true {self.true(index)}", *said])


def strips(name: str, runs: tuple[Run, Run], labels: tuple[str, str], classes: Sequence[str]) -> list[Strip]:
    """Mistakes that both make, that the first alone makes, that the second alone makes.

    Args:
        name: what charts' names begin with.
        labels: how the two networks are called.

    Raises:
        ValueError: a file is damaged, or they were not tested on the same images.
    """
    answers = _answers(runs, labels, classes)
    first, second = (part != answers.truth for part in answers.said)
    # An image that both get wrong may have been kept by either.
    kept = {index: image for run in runs for index, image in read_mistakes(run.path).items()}
    if len({image.shape for image in kept.values()}) > 1:
        raise ValueError("their mistakes.npz hold images of different sizes")
    kinds = {
        "both": ("Both are wrong", first & second),
        "first": (f"Only {legible(labels[0], 60)} is wrong", first & ~second),
        "second": (f"Only {legible(labels[1], 60)} is wrong", second & ~first),
    }
    return [_strip(f"{name}-{kind}", title, chosen, kept, answers) for kind, (title, chosen) in kinds.items()]


def _answers(runs: tuple[Run, Run], labels: tuple[str, str], classes: Sequence[str]) -> Answers:
    first, second = (run.predictions() for run in runs)
    if not np.array_equal(first["labels"], second["labels"]):
        raise ValueError("they were not tested on the same images")
    for run, arrays in zip(runs, (first, second), strict=True):
        if arrays.get("num_classes", arrays["probabilities"].shape[-1]) != len(classes):
            raise ValueError(f"{run.name}: predictions.npz has other classes than confusion_matrix.csv")
    return Answers(labels, classes, first["labels"], (first["predictions"], second["predictions"]))


def _strip(name: str, title: str, chosen: np.ndarray, kept: Mapping[int, np.ndarray], answers: Answers) -> Strip:
    """The strip of the mistakes that are `chosen`, (N,) truth values."""
    total = int(chosen.sum())
    if not total:
        return Strip(title, "none")
    count = f"{total:,} of {len(chosen):,} test images ({as_percent(total / len(chosen))})"
    found = [index for index in sorted(kept) if index < len(chosen) and chosen[index]]
    if not found:
        return Strip(title, count, note="No picture of these is kept in the run folders (mistakes.npz).")
    signals = kept[found[0]].ndim == 2
    few = found[: SHOWN_SIGNALS if signals else SHOWN]
    note = "" if len(few) == total else f"{len(few)} of {total:,} are shown."
    if signals:
        captions = [f"signal {index}: {answers.told(index)}" for index in few]
        return Strip(title, count, chart=signal_strip(name, title, [kept[i] for i in few], captions), note=note)
    short = dict(zip(answers.classes, apart(answers.classes, 18), strict=True))
    pictures = [
        Picture(
            source=data_uri(kept[index]),
            alt=legible(f"Test image {index}: {answers.told(index)}", 400),
            true=short[answers.true(index)],
            taken=[short[name] for name in answers.taken(index)],
            index=index,
        )
        for index in few
    ]
    return Strip(title, count, pictures, note=note)


def data_uri(image: np.ndarray) -> str:
    """An image, uint8 (C, H, W), as a data URI: small ones as PNG, photographs as JPEG."""
    # What is neither grey nor colour is shown by its first channel.
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    form = "PNG" if max(image.shape[1:]) <= SMALL else "JPEG"
    content = io.BytesIO()
    options = {"optimize": True} if form == "PNG" else {"quality": 82}
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
