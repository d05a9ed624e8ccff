"""`draw.html`: a page to draw on, with the network of a finished run, in one file that needs no other."""

import base64
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

import cnnbench
from cnnbench.data import Split
from cnnbench.draw.program import compile_run, read_script
from cnnbench.draw.style import Style, choose_plain_style, measure_style
from cnnbench.experiment.measuring.measured_data import DataChoice, choose_data
from cnnbench.experiment.measuring.predict import get_decoding
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.report.documents import format_json, hash_for_policy, read_template, render
from cnnbench.report.formatting import make_legible
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.runs.shown_images import choose_of_each_class
from cnnbench.storage.plain_data import parse_yaml

PAGE = "draw.html"
GENERATOR = "cnnbench draw"
SCRIPTS = ("drawing.js", "picture.js", "views.js", "page.js", "input.js")
MEASURED = 1000  # training images
MOST_SAMPLES, MOST_SAMPLE_BYTES = 30, 150_000  # of the test images in the page
LONGEST_NAME = 40  # characters of a class name


def render_page(trained: Trained, language: str, choice: DataChoice, name: str) -> tuple[str, list[str]]:
    """The page of a run, and notes for the user.

    Args:
        language: the page's first language, one of `documents.LANGUAGES`; the page can switch.
        choice: where the run's data are now. Without them, the page has no samples and a plain pen.
        name: of the run, for the page's footer.

    Raises:
        ValueError: the run's network cannot be evaluated by the page.
    """
    program = compile_run(trained)
    style, samples, notes = _find_examples(trained, choice)
    texts = parse_yaml(read_template("texts.yaml", "draw"))
    facts = {
        "model": make_legible(trained.config.model.name, 80),
        "data": make_legible(trained.info.name, 80),
        "run": make_legible(name),
        "version": cnnbench.__version__,
    }
    content = {
        "language": language,
        "texts": texts,
        "facts": facts,
        "accuracy": _find_accuracy(trained),
        "classes": shorten_distinctly(trained.info.class_names, LONGEST_NAME),
        "style": asdict(style),
        "decoding": {key: getattr(get_decoding(trained), key) for key in ("resize", "background")},
        "polarity": trained.polarity,
        "samples": samples,
    }
    script = "\n".join(['"use strict";', read_script(), *(read_template(file, "draw") for file in SCRIPTS)])
    sheet = read_template("report.css") + read_template("page.css", "draw")
    context = {
        "language": language,
        "title": texts[language]["title"].format(model=facts["model"]),
        "generator": f"{GENERATOR} {cnnbench.__version__}",
        "channels": trained.info.in_channels,
        "is_fitted": style.fit is not None,
        "page": Markup(format_json(content)),
        "program": Markup(program.as_json()),
        "weights": Markup(_encode(program.weights)),
        "script": Markup(script),
        "script_hash": hash_for_policy(script),
        "style": Markup(sheet),
        "style_hash": hash_for_policy(sheet),
    }
    return render("page.html.j2", context, {}, html=True, room="draw"), [*program.notes, *notes]


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _find_examples(trained: Trained, choice: DataChoice) -> tuple[Style, dict[str, Any], list[str]]:
    """The style of the training images, some test images of each class in turn as plain data, and notes."""
    shape = trained.info.input_shape
    try:
        found = choose_data(trained, choice)
    except ValueError as error:
        note = f"the page has no test images, and its pen is not that of the training images: {error}"
        return choose_plain_style(shape, trained.polarity), {"places": [], "labels": [], "pixels": ""}, [note]
    train, test = found.dataset.train, found.split
    measured = np.linspace(0, len(train) - 1, min(MEASURED, len(train))).astype(np.int64)
    style = measure_style(_read_images(train, measured), trained.polarity)
    labels = test.labels.cpu().numpy()
    places = choose_of_each_class(labels, max(1, min(MOST_SAMPLES, MOST_SAMPLE_BYTES // int(np.prod(shape)))))
    pixels = _encode(_read_images(test, places).tobytes())
    return style, {"places": places.tolist(), "labels": labels[places].tolist(), "pixels": pixels}, found.notes


def _read_images(split: Split, places: np.ndarray) -> np.ndarray:
    """Images of a split as uint8 (N, C, H, W)."""
    return split[torch.from_numpy(places)].images.cpu().numpy()


def _find_accuracy(trained: Trained) -> float | None:
    """The run's accuracy on its test images, if its folder has it."""
    try:
        value: Any = trained.folder.read_summary().get("test/accuracy")
    except (ValueError, OSError):
        return None
    return value if isinstance(value, float) and 0 <= value <= 1 else None
