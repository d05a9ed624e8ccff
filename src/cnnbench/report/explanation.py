"""The pictures and the page of `cnnbench explain`, in English or Portuguese."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

import cnnbench
from cnnbench.report.documents import read_template, render
from cnnbench.report.formatting import make_legible
from cnnbench.report.svg import PAPER, to_svg, use_page_style
from cnnbench.runs import explanation_figures as figures
from cnnbench.runs.captions import describe_answer
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.runs.explanation import Explanation, ShownImage
from cnnbench.runs.figures import plot_mistakes, save_figure
from cnnbench.runs.heat_map_figures import plot_heat_maps
from cnnbench.storage.atomic import write_text
from cnnbench.storage.plain_data import parse_yaml

PAGE = "explanation.html"
PIXELS_PER_INCH = 115  # of a drawing on the page, as `to_svg` sizes it


@dataclass(frozen=True)
class Drawing:
    """A picture on the page; the PNG file of the same name has it too."""

    file: str
    figure: Figure
    caption: str = ""

    @property
    def width(self) -> int:
        """Its natural width on the page, in CSS pixels."""
        return round(self.figure.get_size_inches()[0] * PIXELS_PER_INCH)

    def draw_svg(self, title: str) -> Markup:
        """Draw it as an element of the page, which a screen reader announces by the title and the caption."""
        label = f"{title}: {self.caption}" if self.caption else title
        # The XML writer has escaped the text in it.
        return Markup(to_svg(self.figure, self.file, make_legible(label), {}))


Part = tuple[str, list[Drawing]]  # what the drawings of a section show, or why there are none


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    text: str
    drawings: list[Drawing]


def write_explanation(folder: Path, found: Explanation, language: str, title: str) -> None:
    """Write the page, and a PNG file for each picture; those of an earlier explanation are replaced.

    Args:
        language: one of `documents.LANGUAGES`.
        title: what the page says of the run below its heading.
    """
    texts = parse_yaml(read_template("explanation.yaml"))[language]
    with use_page_style(), rc_context({"axes.grid": False}):
        sections = _make_sections(found, texts)
        folder.mkdir(parents=True, exist_ok=True)
        files = {f"{drawing.file}.png": drawing.figure for section in sections for drawing in section.drawings}
        for stale in folder.glob("*.png"):
            if stale.name not in files and stale.stem.startswith("feature_maps_"):
                stale.unlink()
        # Saving a figure gives it the layout of the style afterwards; these are laid out already.
        with rc_context({"savefig.transparent": False, "figure.constrained_layout.use": False}):
            for name, figure in files.items():
                save_figure(figure, folder / name)
        context = {
            "texts": texts,
            "language": language,
            "title": make_legible(texts["title"].format(model=found.model), 80),
            "lead": title,
            "notes": found.notes,
            "sections": sections,
            "made": texts["made"].format(version=cnnbench.__version__),
            "style": Markup(read_template("report.css")),
        }
        page = render("explanation.html.j2", context, {"make_legible": make_legible}, html=True)
    write_text(folder / PAGE, page)


def _make_sections(found: Explanation, texts: Mapping[str, Any]) -> list[Section]:
    makers = {
        "filters": _explain_filters,
        "seen": _explain_fields,
        "maps": _explain_maps,
        "heat_maps": _explain_heat,
        "embedding": _explain_embedding,
        "mistakes": _explain_mistakes,
        "shift": _explain_shift,
    }
    sections = []
    for name, make in makers.items():
        reason = found.omitted.get(name)
        part = (texts["omitted"][reason].format(model=found.model), []) if reason else make(found, texts)
        sections.append(Section(name, texts[name], *part))
    return sections


def _explain_filters(found: Explanation, texts: Mapping[str, Any]) -> Part:
    filters = found.filters
    assert filters is not None  # otherwise the section is omitted; the same holds below
    kind = "filters_signals" if filters.weights.ndim == 3 else "filters_dense" if filters.is_dense else "filters_text"
    shown = len(filters.weights)
    counts = texts["filters_dense_count" if filters.is_dense else "filters_count"]
    count = counts["all" if shown == filters.total else "some"].format(shown=shown, total=filters.total)
    text = texts[kind].format(count=count, layer=filters.layer)
    return text, [Drawing("filters", figures.plot_filters(filters))]


def _explain_fields(found: Explanation, texts: Mapping[str, Any]) -> Part:
    figure = figures.plot_seen(found.seen, found.images[0].pixels)
    return texts["seen_text"], [Drawing("receptive_fields", figure)]


def _explain_maps(found: Explanation, texts: Mapping[str, Any]) -> Part:
    drawings = [
        Drawing(f"feature_maps_{number}", figures.plot_activations(one), _write_caption(one, found, texts))
        for number, one in enumerate(found.images, 1)
    ]
    return texts["maps_text"], drawings


def _write_caption(one: ShownImage, found: Explanation, texts: Mapping[str, Any]) -> str:
    """Such as `test image 12: true 7, says 9 (64%)`."""
    words, names = texts["words"], shorten_distinctly(found.class_names, 40)
    name = words["test"].format(name=one.name) if one.is_test else one.name
    label, prediction = (None if k is None else names[k] for k in (one.label, one.prediction))
    parts = describe_answer(words, label, prediction, one.probability or 0.0)
    return f"{name}: {', '.join(parts)}" if parts else name


def _explain_heat(found: Explanation, texts: Mapping[str, Any]) -> Part:
    reason = found.omitted.get("grad_cam")
    grad_cam = texts["omitted"]["grad_cam"] if reason else texts["grad_cam_text"]
    text = texts["heat_maps_text"].format(
        window=" × ".join(map(str, found.window)),
        grad_cam=grad_cam.format(model=found.model, layer=found.grad_cam_layer),
    )
    figure = plot_heat_maps(found.images, found.class_names, texts["words"])
    return text, [Drawing("heat_maps", figure)]


def _explain_embedding(found: Explanation, texts: Mapping[str, Any]) -> Part:
    embedding = found.embedding
    assert embedding is not None
    wrong = int(embedding.is_wrong.sum())
    text = texts["embedding_text"].format(images=len(embedding.labels), units=embedding.units, wrong=wrong)
    figure = figures.plot_embedding(embedding, found.class_names, texts["words"], PAPER)
    return text, [Drawing("embedding", figure)]


def _explain_mistakes(found: Explanation, texts: Mapping[str, Any]) -> Part:
    mistakes = found.mistakes
    assert mistakes is not None
    figure = plot_mistakes(mistakes.images, mistakes.predicted, found.class_names, texts["words"])
    return texts["mistakes_text"], [Drawing("mistakes", figure)]


def _explain_shift(found: Explanation, texts: Mapping[str, Any]) -> Part:
    shift = found.shift
    assert shift is not None
    are_signals = found.images[0].pixels.ndim == 2
    figure = figures.plot_shift(shift, texts["words"], texts["words"]["shift_signals" if are_signals else "shift"])
    return texts["shift_text"].format(images=shift.images), [Drawing("shift", figure)]
