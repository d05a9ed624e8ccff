"""Which test images two networks get wrong, both or one alone, and those of them that their folders kept."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cnnbench.report.class_charts import signal_strip
from cnnbench.report.runs import Run
from cnnbench.report.svg import Chart, legible
from cnnbench.results import read_mistakes

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


def strips(name: str, runs: tuple[Run, Run], labels: tuple[str, str], classes: Sequence[str]) -> list[Strip]:
    """Mistakes that both make, that the first alone makes, that the second alone makes.

    Args:
        name: what charts' names begin with.
        labels: how the two networks are called.

    Raises:
        ValueError: a file is damaged, or they were not tested on the same images.
    """
    truth, said = _answers(runs, len(classes))
    wrong = said[0] != truth, said[1] != truth
    kept = [read_mistakes(run.path) for run in runs]
    kinds = {
        "both": ("Both are wrong", wrong[0] & wrong[1]),
        "first": (f"Only {legible(labels[0], 60)} is wrong", wrong[0] & ~wrong[1]),
        "second": (f"Only {legible(labels[1], 60)} is wrong", wrong[1] & ~wrong[0]),
    }
    made = []
    for kind, (title, chosen) in kinds.items():
        total = int(chosen.sum())
        count = f"{total:,} of {len(truth):,} test images ({total / max(len(truth), 1):.2%})"
        # An image that both get wrong may have been kept by either.
        found = {
            index: pixels for part in kept for index, pixels in part.items() if index < len(truth) and chosen[index]
        }
        made.append(_strip(f"{name}-{kind}", title, count, found, total, truth, said, classes, labels))
    return made


def _answers(runs: tuple[Run, Run], classes: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    arrays = [run.predictions() for run in runs]
    if not np.array_equal(arrays[0]["labels"], arrays[1]["labels"]):
        raise ValueError("they were not tested on the same images")
    for run, part in zip(runs, arrays, strict=True):
        if part["probabilities"].shape[1:] != (classes,):
            raise ValueError(f"{run.name}: predictions.npz has other classes than confusion_matrix.csv")
    return arrays[0]["labels"], (arrays[0]["predictions"], arrays[1]["predictions"])


def _strip(
    name: str, title: str, count: str, found: dict[int, np.ndarray], total: int, truth: np.ndarray,
    said: tuple[np.ndarray, np.ndarray], classes: Sequence[str], labels: tuple[str, str],
) -> Strip:  # fmt: skip
    if not total:
        return Strip(title, "none")
    if not found:
        return Strip(title, count, note="No picture of these is kept in the run folders (mistakes.npz).")
    signals = next(iter(found.values())).ndim == 2
    few = sorted(found)[: SHOWN_SIGNALS if signals else SHOWN]
    note = "" if len(few) == total else f"{len(few)} of {total:,} are shown, drawn by chance."
    if signals:
        captions = [f"signal {index}: {'; '.join(_lines(index, truth, said, classes, labels))}" for index in few]
        return Strip(title, count, chart=signal_strip(name, title, [found[i] for i in few], captions), note=note)
    pictures = []
    for index in few:
        lines = _lines(index, truth, said, classes, labels)
        alt = legible(f"Test image {index}: {'; '.join(lines)}", 400)
        true = legible(classes[truth[index]], 18)
        pictures.append(Picture(data_uri(found[index]), alt, true, _taken(index, said, truth, classes), index))
    return Strip(title, count, pictures, note=note)


def _lines(
    index: int, truth: np.ndarray, said: tuple[np.ndarray, np.ndarray], classes: Sequence[str], labels: tuple[str, str]
) -> list[str]:
    return [f"true {classes[truth[index]]}"] + [
        f"{label} says {classes[part[index]]}" for label, part in zip(labels, said, strict=True)
    ]


def _taken(index: int, said: tuple[np.ndarray, np.ndarray], truth: np.ndarray, classes: Sequence[str]) -> list[str]:
    """What an image is wrongly taken for, by the first and the second network; once, where they agree."""
    wrong = dict.fromkeys(int(part[index]) for part in said if part[index] != truth[index])
    return [legible(classes[k], 18) for k in wrong]


def data_uri(image: np.ndarray) -> str:
    """An image, uint8 (C, H, W), as a data URI: small ones as PNG, photographs as JPEG."""
    # What is neither grey nor colour is shown by its first channel.
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    form = "PNG" if max(image.shape[1:]) <= SMALL else "JPEG"
    content = io.BytesIO()
    options = {"optimize": True} if form == "PNG" else {"quality": 82}
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
