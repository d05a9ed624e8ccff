"""`check.html`: the findings of a data check, with pictures of the pairs and suspects by class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

import cnnbench
from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding, ImageName
from cnnbench.report.documents import read_template, render
from cnnbench.report.formatting import make_legible
from cnnbench.report.mistakes import encode_picture
from cnnbench.runs.shown_images import choose_of_each_class
from cnnbench.storage.atomic import write_text

PAGE = "check.html"
MOST_SHOWN = 60  # cases of a kind, spread over the classes
LARGEST = 128  # pixels of a picture's longer side
WAVE = (64, 96)  # pixels of a signal's picture
PLAIN = ("size", "shape", "brightness", "colour", "label")  # findings that may be as they should

Read = Callable[[ImageName], np.ndarray | None]


@dataclass(frozen=True)
class Picture:
    """An image of a case: its pixels as a data URI, empty if it cannot be read, and what names it."""

    source: str
    alt: str
    name: str
    label: str


@dataclass(frozen=True)
class Entry:
    """A case on the page."""

    pictures: Sequence[Picture]
    detail: str


@dataclass(frozen=True)
class Section:
    """The cases of a kind that are shown, by class."""

    kind: str
    finding: Finding
    classes: Sequence[tuple[str, Sequence[Entry]]]

    @property
    def title(self) -> str:
        """The heading."""
        return KINDS[self.kind].title

    @property
    def meaning(self) -> str:
        """What the finding says about the data."""
        return KINDS[self.kind].meaning

    @property
    def shown(self) -> int:
        """How many cases are shown."""
        return sum(len(entries) for _, entries in self.classes)

    @property
    def colour(self) -> str:
        """The class of the stylesheet for its count."""
        return "better" if not self.finding.count else "plain" if self.kind in PLAIN else "worse"


def write_page(folder: Path, check: DataCheck, read: Read) -> None:
    """Write the page to a folder.

    Args:
        read: the pixels of an image, uint8 (C, H, W), or of a signal, float32 (C, L); None if it cannot be read.

    Raises:
        OSError: it cannot be written.
    """
    write_text(folder / PAGE, render_page(check, read))


def render_page(check: DataCheck, read: Read) -> str:
    """The page's HTML; it has no script."""
    sections = [
        Section(kind, finding, _show_cases(finding.cases, check.class_names, read))
        for kind, finding in check.findings.items()
    ]
    context = {
        "check": check,
        "sections": sections,
        "version": cnnbench.__version__,
        "style": Markup(read_template("report.css")),
    }
    return render("check.html.j2", context, {"make_legible": make_legible}, html=True)


def _show_cases(cases: Sequence[Case], names: Sequence[str], read: Read) -> list[tuple[str, list[Entry]]]:
    """Some cases of each class in turn, the first of each class first."""
    place = {name: at for at, name in enumerate(names)}
    chosen = choose_of_each_class(np.array([place[case.label] for case in cases], np.int64), MOST_SHOWN)
    shown: dict[str, list[Entry]] = {}
    for at in sorted(chosen.tolist(), key=lambda at: (place[cases[at].label], at)):
        case = cases[at]
        entry = Entry([_make_picture(image, read) for image in case.images], case.detail)
        shown.setdefault(case.label, []).append(entry)
    return [*shown.items()]


def _make_picture(image: ImageName, read: Read) -> Picture:
    pixels = read(image)
    source = ""
    if pixels is not None:
        source = encode_picture(draw_wave(pixels) if pixels.ndim == 2 else shrink(pixels))
    split = "" if image.path is None else f" ({image.split})"
    return Picture(source, f"{image}, {image.split}, {image.label}", f"{image}{split}", image.label)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """An image, uint8 (C, H, W), of at most `LARGEST` pixels a side."""
    height, width = pixels.shape[1:]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.stack([np.array(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in pixels])


def draw_wave(signal: np.ndarray) -> np.ndarray:
    """A signal, (C, L), as a grey picture with a line for each channel: uint8 (1, H, W)."""
    height, width = WAVE
    signal = np.nan_to_num(signal.astype(np.float64))
    low, high = signal.min(), signal.max()
    heights = (height - 3) * (1 - (signal - low) / ((high - low) or 1.0)) + 1
    picture = Image.new("L", (width, height), 255)
    for channel in heights:
        places = np.linspace(0, width - 1, len(channel))
        ImageDraw.Draw(picture).line([*zip(places.tolist(), channel.tolist(), strict=True)], fill=30)
    return np.array(picture)[None]
