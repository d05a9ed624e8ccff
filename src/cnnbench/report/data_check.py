"""`check.html`: the findings of a data check, with pictures of the pairs and suspects by class."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

import cnnbench
from cnnbench.quality.findings import KINDS, DataCheck, Finding, ImageName
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

# The pixels of an image, uint8 (C, H, W), or of a signal, float32 (C, L); None if it cannot be read.
Read = Callable[[ImageName], np.ndarray | None]


def write_page(folder: Path, check: DataCheck, read: Read) -> None:
    """Write the page to a folder."""
    write_text(folder / PAGE, render_page(check, read))


def render_page(check: DataCheck, read: Read) -> str:
    """The page's HTML; it has no script."""
    context = {
        "check": check,
        "sections": [_make_section(kind, finding, check.class_names, read) for kind, finding in check.findings.items()],
        "version": cnnbench.__version__,
        "style": Markup(read_template("report.css")),
    }
    return render("check.html.j2", context, {"make_legible": make_legible}, html=True)


def _make_section(kind: str, finding: Finding, names: Sequence[str], read: Read) -> dict[str, Any]:
    """What the page shows of a kind: some cases of each class, the first of each class first."""
    place = {name: at for at, name in enumerate(names)}
    labels = np.array([place[case.label] for case in finding.cases], np.int64)
    chosen = choose_of_each_class(labels, MOST_SHOWN)
    classes: dict[str, list[dict[str, Any]]] = {}
    for at in sorted(chosen.tolist(), key=lambda at: (labels[at], at)):
        case = finding.cases[at]
        pictures = [_make_picture(image, read) for image in case.images]
        classes.setdefault(case.label, []).append({"pictures": pictures, "detail": case.detail})
    return {
        "kind": kind,
        "title": KINDS[kind].title,
        "meaning": KINDS[kind].meaning,
        "count": finding.count,
        "shown": len(chosen),
        "classes": [*classes.items()],
        "colour": "better" if not finding.count else "plain" if kind in PLAIN else "worse",
    }


def _make_picture(image: ImageName, read: Read) -> dict[str, str]:
    pixels = read(image)
    source = ""  # an image that cannot be read
    if pixels is not None:
        source = encode_picture(draw_wave(pixels) if pixels.ndim == 2 else shrink(pixels))
    split = "" if image.path is None else f" ({image.split})"
    alt = f"{image}, {image.split}, {image.label}"
    return {"source": source, "alt": alt, "name": f"{image}{split}", "label": image.label}


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Shrink an image, uint8 (C, H, W), to at most `LARGEST` pixels a side."""
    height, width = pixels.shape[1:]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.stack([np.array(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in pixels])


def draw_wave(signal: np.ndarray) -> np.ndarray:
    """Draw a signal, (C, L), as a grey picture with a line for each channel: uint8 (1, H, W)."""
    height, width = WAVE
    signal = np.nan_to_num(signal.astype(np.float64))
    low, high = signal.min(), signal.max()
    heights = (height - 3) * (1 - (signal - low) / ((high - low) or 1.0)) + 1
    picture = Image.new("L", (width, height), 255)
    for channel in heights:
        places = np.linspace(0, width - 1, len(channel))
        ImageDraw.Draw(picture).line([*zip(places.tolist(), channel.tolist(), strict=True)], fill=30)
    return np.array(picture)[None]
