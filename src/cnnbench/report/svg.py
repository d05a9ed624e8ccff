"""A matplotlib figure as SVG for a page: coloured by the page's CSS, with a hover value on every mark.

Charts are drawn in stand-in colours (`INK`, `MUTED`, `GRID`, `PAPER`, `SERIES`); here each becomes a CSS variable, so
that one drawing has enough contrast on light and on dark paper. Text stays text, in the page's font.
"""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from cnnbench.runs.class_names import shorten
from cnnbench.storage.text import format_percent, make_lines_printable, make_printable

INK, MUTED, GRID, PAPER = "#010203", "#616263", "#e1e2e3", "#f1f2f3"
# Okabe and Ito's colours, as the stylesheet has them; markers differ as well, for those who see none.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Tips = dict[str, list[str]]  # by the gid of an artist, what its marks say, in the order they are drawn
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
# Cells of a matrix are the page's paper to none, and a colour to all: light and dark values as in the stylesheet.
PAPERS = "#ffffff", "#14171b"
CELLS = ("#08519c", "#9fd3f5"), ("#54278f", "#cdbff2"), ("#8c3b00", "#ffbf8a")
LEVELS = 256
STAND_IN_CELL = re.compile("fill:#5e([0-9a-f]{2})0([0-9])")
# A number in a cell, by whether it is black on light and on dark paper. Pure black would not be written down.
INKS = {(True, True): "#010101", (False, False): "#ffffff", (True, False): "#0a0b0c", (False, True): "#f8f9fa"}
VARIABLES |= {"#0a0b0c": "--cell-ink", "#f8f9fa": "--cell-paper"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cnnbench",
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "DejaVu Sans",  # wider than what the page shows it in: nothing measured here overlaps there
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


def legible(text: object, longest: int = 200) -> str:
    """A name on one line, with nothing in it that hides or reorders what stands around it; shortened, if too long."""
    return shorten(make_printable(" ".join(str(text).split())), longest)


def legible_lines(text: object, longest: int = 2000) -> str:
    """A message or command likewise, its lines and spaces as they are."""
    return shorten(make_lines_printable(str(text)), longest)


def as_percent(share: float, digits: int = 2) -> str:
    """A share as text: `98.71 %`."""
    return format_percent(share, digits, sign=" %")


def cell_colours(kinds: Sequence[int]) -> ListedColormap:
    """Stand-in colours of a heatmap, of one or two of `CELLS`: from none to all of it, or or from one to the other."""
    steps = [[f"#5e{level:02x}0{kind}" for level in range(LEVELS)] for kind in kinds]
    return ListedColormap(steps[0] if len(steps) == 1 else steps[0][::-1] + steps[1])


def ink_on(colour: str) -> str:
    """Black or white, as a stand-in colour, for a number in a cell: whichever stands out more, on either paper."""
    cell = STAND_IN_CELL.fullmatch(f"fill:{colour}")
    if cell is None:
        return INKS[(_takes_black(to_rgb(colour)),) * 2]
    share = int(cell[1], 16) / (LEVELS - 1)
    on_light, on_dark = (
        _takes_black([(1 - share) * a + share * b for a, b in zip(to_rgb(paper), to_rgb(full), strict=True)])
        for paper, full in zip(PAPERS, CELLS[int(cell[2])], strict=True)
    )
    return INKS[on_light, on_dark]


def _takes_black(rgb: Sequence[float]) -> bool:
    """Whether black has more contrast than white on a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179


def as_points(share: float) -> str:
    """A difference of shares in percentage points: `+2.03`."""
    return f"{100 * share:+.2f}".replace("-", "−")


def as_interval(low: float | None, high: float | None, write: Callable[[float], str] = as_percent) -> str:
    """`[low, high]`, or nothing where there is no interval."""
    return "" if low is None or high is None else f"[{write(low)}, {write(high)}]"


@contextmanager
def drawing() -> Iterator[None]:
    """Inside, matplotlib draws as the page wants it; glyphs it has no font for are the browser's business."""
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
        name: unique on the page; every id begins with it.
        label: what a reader who does not see it is told.
        tips: by the gid of an artist, the texts of its marks in the order they are drawn. Each becomes a `<title>`.

    Raises:
        ValueError: an artist has not as many marks as texts.
    """
    content = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with drawing():
        figure.savefig(content, format="svg", metadata=empty)
    root = ElementTree.fromstring(content.getvalue())
    for element in root.iter():
        _plain(element)
    for gid, texts in tips.items():
        _add_titles(root, gid, texts)
    _tidy(root, name)
    width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
    natural = f"{width * 1.6:.0f}"  # a point is 4/3 CSS pixels; where there is room, a fifth larger
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "style": f"max-width:{natural}px",
        "role": "group" if tips else "img",
        "aria-label": label,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    """Names without namespaces, as in HTML; colours by variable; numbers to a hundredth of a point."""
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
        element.attrib["style"] = _style(element.attrib["style"])


def _style(style: str) -> str:
    kept = (part.strip() for part in style.split(";") if not part.strip().startswith("font-family"))
    text = ";".join(part.replace(": ", ":", 1) for part in kept)
    text = STAND_IN_CELL.sub(lambda cell: f"fill:var(--cell-{cell[2]});fill-opacity:{int(cell[1], 16) / 255:.3g}", text)
    variables = {colour: f"var({name})" for colour, name in VARIABLES.items()}
    return re.sub("#[0-9a-f]{6}", lambda found: variables.get(found[0], found[0]), text)


def _add_titles(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    (group,) = (element for element in root.iter("g") if element.get("id") == gid)
    defined = {inner for defs in group.iter("defs") for inner in defs.iter()}
    marks = [element for element in group.iter() if element.tag in ("path", "use") and element not in defined]
    if len(marks) != len(texts):
        raise ValueError(f"{gid!r} has {len(marks)} marks and {len(texts)} texts")
    for mark, text in zip(marks, texts, strict=True):
        mark.set("class", "mark")
        ElementTree.SubElement(mark, "title").text = legible_lines(text, 500)


def _tidy(root: ElementTree.Element, name: str) -> None:
    """Ids that nothing refers to go, the others get the chart's name in front; so do empty groups and backgrounds."""
    for parent in list(root.iter()):
        for child in list(parent):
            unseen = child.tag == "path" and child.get("style") == "fill:none"
            if child.tag in ("metadata", "style") or unseen or (child.tag in ("g", "defs") and not len(child)):
                parent.remove(child)
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {
        found for value in values for found in re.findall(r"^#(.+)$|url\(#(.+?)\)", value) for found in found if found
    }
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            if key == "id":
                element.attrib[key] = f"{name}-{value}"
            elif key in ("href", "clip-path"):
                element.attrib[key] = value.replace("#", f"#{name}-", 1)


@dataclass(frozen=True)
class Chart:
    """A drawing and what it shows in words and numbers.

    Attributes:
        name: unique on the page, of letters, digits and dashes.
        svg: from `to_svg`.
        note: what the marks, lines and bands are.
        header, rows: the drawn values as text.
    """

    name: str
    title: str
    svg: Markup
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def chart(
    figure: Figure,
    name: str,
    title: str,
    summary: str,
    note: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    tips: Mapping[str, Sequence[str]],
) -> Chart:
    """Make a chart of a figure; `summary` is what a reader who does not see it is told."""
    # The text in it has been escaped by the XML writer.
    svg = Markup(to_svg(figure, name, legible(f"{title}. {summary}", 1000), tips))
    return Chart(name, title, svg, note, header, rows)
