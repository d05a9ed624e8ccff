"""HTML for notebooks. Tables take the colours of the notebook, and pictures hold everything they need."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.report.charts import chart_differences
from cnnbench.report.curves import chart_curves
from cnnbench.report.documents import read_template, render
from cnnbench.report.formatting import make_legible, make_lines_legible
from cnnbench.report.groups import shorten_names
from cnnbench.report.study import Study
from cnnbench.report.svg import Chart
from cnnbench.report.tables import tabulate_groups, tabulate_runs
from cnnbench.storage.regular import read_bytes

PICTURES = {
    "curves.png": "Learning curves",
    "confusion_matrix.png": "Confusion matrix",
    "mistakes.png": "Mistakes",
    "reconstructions.png": "Reconstructions",
}
LARGEST_PICTURE = 2**24  # bytes
MOST_ROWS = 60
Image = tuple[str, str, str]  # its label, its type, its content in base64


def render_run(title: str, figures: Mapping[str, str], folder: Path) -> str:
    """A run: its figures, and the pictures in its folder."""
    images = [image for name, label in PICTURES.items() if (image := _read_picture(folder / name, label))]
    return _render(title, head=["result", "value"], rows=list(figures.items()), images=images, folder=folder)


def render_study(title: str, study: Study, folder: Path | None = None) -> str:
    """A comparison: its verdicts, groups, notes and charts; without groups, its runs."""
    table = (tabulate_groups(study) if study.groups else tabulate_runs(study)).adapt_to("text")
    charts, _ = chart_curves(study)
    if against := list(study.against_baseline.values()):
        charts = [chart_differences(against, shorten_names(study.groups, study.axes)), *charts]
    return _render(
        title,
        [one.sentence for one in study.comparisons],
        head=[column.heading for column in table.columns],
        rows=table.texts[:MOST_ROWS],
        notes=[note.text for note in study.notes],
        images=[_encode_chart(chart) for chart in charts],
        folder=folder,
    )


def render_message(title: str, message: str) -> str:
    """A run or a sweep that cannot be shown, and why."""
    return _render(title, [message])


def _render(
    title: str,
    sentences: Sequence[str] = (),
    *,
    head: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
    images: Sequence[Image] = (),
    folder: Path | None = None,
) -> str:
    context: dict[str, Any] = {"title": title, "sentences": sentences, "head": head, "rows": rows, "notes": notes}
    filters = {"legible": make_legible, "legible_lines": make_lines_legible}
    return render("output.html.j2", context | {"images": images, "folder": folder}, filters, html=True, room="api")


def _read_picture(path: Path, label: str) -> Image | None:
    try:
        return label, "image/png", _encode(read_bytes(path, LARGEST_PICTURE))
    except (ValueError, OSError):  # the others are shown
        return None


def _encode_chart(chart: Chart) -> Image:
    # The style sheet of a report declares its light colours first, then its dark ones.
    light, dark = re.findall(r":root \{(.*?)\}", read_template("report.css"), re.DOTALL)[:2]
    style = (
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "svg{background:var(--paper);font-family:var(--sans)}</style>"
    )
    # An image is a document of its own, which needs the namespace.
    drawing = str(chart.svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return chart.title, "image/svg+xml", _encode(drawing.replace(">", f">{style}", 1).encode())


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
