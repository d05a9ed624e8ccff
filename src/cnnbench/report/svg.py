"""A matplotlib figure as SVG for a page: coloured by the page's CSS, with a tooltip on every mark.

Charts are drawn in placeholder colours (`INK`, `MUTED`, `GRID`, `PAPER`, `SERIES`). Here each becomes a CSS variable,
so that one drawing has enough contrast on light and on dark paper. Text stays text, in the page's font.
"""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from cnnbench.report.formatting import make_legible, make_lines_legible

INK, MUTED, GRID, PAPER = "#010203", "#616263", "#e1e2e3", "#f1f2f3"
# Okabe and Ito's colours, as in the stylesheet; markers differ too, for readers who do not see colours.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Tips = dict[str, list[str]]  # by the gid of an artist, the tooltips of its marks in drawing order
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
# A cell of a matrix is coloured by kind and level: #5eLL0k becomes the colour `--cell-k` at this opacity.
CELL = re.compile("fill:#5e([0-9a-f]{2})0([0-9])")
VARIABLES |= {"#0a0b0c": "--cell-ink", "#f8f9fa": "--cell-paper"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "DejaVu Sans",  # wider than the page's fonts, so that nothing measured here overlaps there
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
}
LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
SIZE = 4.9, 3.5  # inches, of a chart that stands beside another one
LABEL = 30  # characters of a name inside a chart
ATTRIBUTES_WITH_NUMBERS = ("d", "x", "y", "width", "height", "transform", "points")


@contextmanager
def use_page_style() -> Iterator[None]:
    """Draw in the style of the page, without warnings of missing glyphs: the browser finds a font."""
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fonts.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts.setLevel(level)


def to_svg(figure: Figure, name: str, label: str, tips: Mapping[str, Sequence[str]]) -> str:
    """An `<svg>` element for a page.

    Args:
        name: unique on the page, which makes the ids of the drawing unique too.
        label: what a screen reader reads.
        tips: by the gid of an artist, the texts of its marks in drawing order. Each becomes a `<title>`.

    Raises:
        ValueError: an artist has more or fewer marks than texts.
    """
    content = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with use_page_style(), matplotlib.rc_context({"svg.hashsalt": name}):  # ids that differ from those of other charts
        figure.savefig(content, format="svg", metadata=empty)
    root = ElementTree.fromstring(content.getvalue())
    for element in root.iter():
        _clean(element)
    for gid, texts in tips.items():
        _add_titles(root, gid, texts)
    _tidy(root)
    width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
    natural = f"{width * 1.6:.0f}"  # a point is 4/3 CSS pixels; where there is room, a fifth larger
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "style": f"max-width:{natural}px",
        "role": "group" if tips else "img",
        "aria-label": label,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element) -> None:
    """Remove namespaces, as in HTML; write colours as variables, and numbers to a hundredth of a point."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag != "text":
        element.text = None
    for key in [key for key in element.attrib if "}" in key]:
        element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    for key in ATTRIBUTES_WITH_NUMBERS:
        if key in element.attrib:
            number = LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[key])
            element.attrib[key] = " ".join(number.split())
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "style" in element.attrib:
        element.attrib["style"] = translate_style(element.attrib["style"])


def translate_style(style: str) -> str:
    """Translate CSS of matplotlib: no fonts, and the page's variables for colours."""
    kept = (part.strip() for part in style.split(";") if not part.strip().startswith("font-family"))
    text = ";".join(part.replace(": ", ":", 1) for part in kept)
    text = CELL.sub(lambda cell: f"fill:var(--cell-{cell[2]});fill-opacity:{int(cell[1], 16) / 255:.3g}", text)
    variables = {colour: f"var({name})" for colour, name in VARIABLES.items()}
    return re.sub("#[0-9a-f]{6}", lambda found: variables.get(found[0], found[0]), text)


def _add_titles(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    # Matplotlib draws a marker once, in <defs>, and places it by <use>; a path in <defs> is no mark.
    (group,) = (element for element in root.iter("g") if element.get("id") == gid)
    defined = {inner for defs in group.iter("defs") for inner in defs.iter()}
    marks = [element for element in group.iter() if element.tag in ("path", "use") and element not in defined]
    if len(marks) != len(texts):
        raise ValueError(f"{gid!r} has {len(marks)} marks and {len(texts)} texts")
    for mark, text in zip(marks, texts, strict=True):
        mark.set("class", "mark")
        ElementTree.SubElement(mark, "title").text = make_lines_legible(text, 500)


def _tidy(root: ElementTree.Element) -> None:
    """Remove empty groups, backgrounds, and ids that nothing refers to."""
    for parent in list(root.iter()):
        for child in list(parent):
            # The transparent backgrounds of the figure and its axes.
            is_unseen = child.tag == "path" and child.get("style") == "fill:none"
            if child.tag in ("metadata", "style") or is_unseen or (child.tag in ("g", "defs") and not len(child)):
                parent.remove(child)
    values = (value for element in root.iter() for value in element.attrib.values())
    used = {name for value in values for names in re.findall(r"^#(.+)$|url\(#(.+?)\)", value) for name in names}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)


@dataclass(frozen=True)
class Chart:
    """A drawing, and its content in words and numbers."""

    name: str  # unique on the page, of letters, digits and dashes
    title: str
    svg: Markup  # from `to_svg`
    note: str  # what the marks, lines and bands mean
    header: Sequence[str]
    rows: Sequence[Sequence[str]]  # the drawn values as text


def make_chart(
    figure: Figure,
    name: str,
    title: str,
    note: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    tips: Mapping[str, Sequence[str]],
) -> Chart:
    """Make a chart of a figure; a screen reader reads its title and the first values."""
    rows = [[make_legible(cell) for cell in row] for row in rows]
    values = ("; ".join(f"{key} {cell}" for key, cell in zip(header, row, strict=True) if cell) for row in rows[:8])
    # The XML writer has escaped the text in it.
    svg = Markup(to_svg(figure, name, make_legible(f"{title}. {'. '.join(values)}", 1000), tips))
    return Chart(name, make_legible(title), svg, note, header, rows)
