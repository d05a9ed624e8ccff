"""HTML for notebooks: tables that take the colours of the notebook, and pictures that hold everything they need.

Charts are images, so that their ids and styles do not meet those of the notebook. Each has its own background, because
a notebook may be light on a dark desktop, or the reverse.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from cnnbench.report.charts import chart_curves, chart_differences
from cnnbench.report.documents import read_template
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
CELL = "text-align:left;padding:2px 8px"
IMAGE = "max-width:min(100%,30rem);background:#fff"


def render_run(title: str, figures: Mapping[str, str], folder: Path) -> str:
    """A run: its figures, and the pictures in its folder."""
    pictures = [_show_picture(folder / name, label) for name, label in PICTURES.items() if (folder / name).is_file()]
    shown = _show_table(["result", "value"], figures.items())
    return _wrap(_show_title(title), shown, _show_images(pictures), _show_note(folder))


def render_study(title: str, study: Study, folder: Path | None = None) -> str:
    """A comparison: its verdicts, groups, notes and charts; without groups, its runs."""
    table = (tabulate_groups(study) if study.groups else tabulate_runs(study)).adapt_to("text")
    charts, _ = chart_curves(study)
    if against := list(study.against_baseline.values()):
        charts = [chart_differences(against, shorten_names(study.groups, study.axes)), *charts]
    return _wrap(
        _show_title(title),
        _show_list([one.sentence for one in study.comparisons]),
        _show_table([column.heading for column in table.columns], table.texts[:MOST_ROWS]),
        _show_list([note.text for note in study.notes]),
        _show_images([_show_chart(chart) for chart in charts]),
        _show_note(folder) if folder else "",
    )


def render_message(title: str, message: str) -> str:
    """What stands in the place of a run whose files cannot be read."""
    return _wrap(_show_title(title), _show_list([message]))


def _wrap(*parts: str) -> str:
    return Markup('<div class="cnnbench">{}</div>').format(Markup("").join(parts))


def _show_title(title: str) -> Markup:
    return Markup("<p><b>{}</b></p>").format(make_legible(title))


def _show_note(text: object) -> Markup:
    return Markup('<p style="opacity:.75"><small>{}</small></p>').format(make_legible(text, 500))


def _show_list(lines: Sequence[str]) -> Markup:
    items = Markup("").join(Markup("<li>{}</li>").format(make_lines_legible(line)) for line in lines)
    return Markup("<ul>{}</ul>").format(items) if lines else Markup("")


def _show_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> Markup:
    cells = Markup("").join(Markup('<th style="{}">{}</th>').format(CELL, make_legible(name)) for name in head)
    lines = [
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup('<td style="{}">{}</td>').format(CELL, make_legible(cell)) for cell in row)
        )
        for row in rows
    ]
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(cells, Markup("").join(lines))


def _show_images(images: Sequence[Markup]) -> Markup:
    """Images beside each other as far as there is room."""
    box = Markup('<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">{}</div>')
    return box.format(Markup("").join(images))


def _show_picture(path: Path, label: str) -> Markup:
    try:
        content = read_bytes(path, LARGEST_PICTURE)
    except (ValueError, OSError):  # a picture more or less
        return Markup("")
    return _show_image("image/png", content, label)


def _show_chart(chart: Chart) -> Markup:
    light, dark = re.findall(r":root \{(.*?)\}", read_template("report.css"), re.DOTALL)[:2]
    style = (
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "svg{background:var(--paper);font-family:var(--sans)}</style>"
    )
    drawing = (
        str(chart.svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{style}", 1)
    )
    return _show_image("image/svg+xml", drawing.encode(), chart.title)


def _show_image(kind: str, content: bytes, label: str) -> Markup:
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Markup('<img src="{}" alt="{}" style="{}">').format(source, label, IMAGE)
