"""How a table is laid out on a terminal: whole, without its less needed columns, or a paragraph for each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cnnbench.storage.text import escape_for_table, make_printable

MOST_SPARE = 2  # columns that paragraphs leave out
PIPED = 200  # columns where standard output is a file or a pipe


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        words: how wide one of words is at least, which may then take several lines; None for one of figures.
        spare: the columns with the highest number are the first to go where there is no room; those with 0 never do.
    """

    name: str
    words: int | None = None
    spare: int = 0


def output() -> Console:
    """Standard output: as wide as the terminal, or wide enough for whole tables where it is a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=PIPED, highlight=False)


def laid_out(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, lines: bool = True
) -> tuple[Table, list[str]] | None:
    """The table with as many of its columns as fit, and the names of the others; None where it does not fit.

    Args:
        lines: whether cells have a frame.
    """
    for most in sorted({column.spare for column in columns}, reverse=True):
        kept = [place for place, column in enumerate(columns) if column.spare <= most]
        widths, longest = zip(*(_widths(columns[place], [row[place] for row in rows]) for place in kept), strict=True)
        room = console.width - sum(widths) - (3 if lines else 1) * len(kept) - 1
        if room < 0:
            continue
        growing = sum(full > width for full, width in zip(longest, widths, strict=True))
        look = box.HEAVY_HEAD if lines else box.SIMPLE
        table = Table(
            title=escape_for_table(title), title_justify="left", box=look, padding=(0, 1) if lines else (0, 1, 0, 0)
        )
        for place, width, full in zip(kept, widths, longest, strict=True):
            column, more = columns[place], min(full - width, room // max(growing, 1))
            justify: Literal["left", "right"] = "right" if column.words is None else "left"
            # Rich shares out the room itself, but by more than there is where columns have a least width.
            table.add_column(escape_for_table(column.name), justify=justify, overflow="fold", width=width + more)
            room, growing = room - more, growing - (full > width)
        table.min_width = min(cell_len(make_printable(title)), console.width)
        for row in rows:
            table.add_row(*(escape_for_table(row[place]) for place in kept))
        return table, [column.name for column in columns if column.spare > most]
    return None


def show_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, lines: bool = True
) -> list[str]:
    """Print a table, or where it does not fit a paragraph for each row; returns the columns that are left out."""
    found = laid_out(console, title, columns, rows, lines=lines)
    if found is not None:
        console.print(found[0])
        return found[1]
    show_text(console, title)
    for row in rows:
        show_text(console, f"{columns[0].name} {row[0]}" if row[0].isdecimal() else row[0])
        cells = zip(columns[1:], row[1:], strict=True)
        told = (f"{column.name}: {cell}" for column, cell in cells if cell and column.spare < MOST_SPARE)
        show_text(console, ", ".join(told), indent=2)
    return [column.name for column in columns if column.spare >= MOST_SPARE]


def show_text(console: Console, text: str, *, indent: int = 0) -> None:
    """Print text that may hold anybody's names, in as many lines as it takes."""
    console.print(Padding(Text(make_printable(text), overflow="fold"), (0, 0, 0, indent), expand=False))


def _widths(column: Column, cells: Sequence[str]) -> tuple[int, int]:
    """The least width in which nothing is cut, a heading broken at its blanks, and that in which nothing is broken."""
    heading = max(map(cell_len, column.name.split()), default=0)
    longest = max([heading, *(cell_len(make_printable(cell)) for cell in cells)])
    least = longest if column.words is None else min(longest, max(column.words, heading))
    return least, max(longest, cell_len(column.name))
