"""`cnnbench report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Shown

from cnnbench.report.study import Study
from cnnbench.report.tables import Table, comparisons, headline
from cnnbench.report.writing import write_report
from cnnbench.text import for_output, for_table, printable

WIDE = 150  # columns of a terminal that shows all columns
LESS_NEEDED = (
    "MACs",
    "field",
    "depth",
    "F1 macro",
    "F1 macro [95 %]",
    "images/s",
    "seconds",
    "published F1",
    "effect",
    "p, t",
)
MOST_ROWS = 40


def report(folders: Sequence[Path], *, out: Path | None, **options: Any) -> None:
    """Compare runs and sweeps; prints the tables and, last, the folder of the report.

    Args:
        options: as in `write_report`.
    """
    place = out or default_out(folders)
    study = write_report(folders, place, **options)
    show_study(study)
    print(for_output(place))


def default_out(folders: Sequence[Path]) -> Path:
    """Into the sweep, if it is one that is asked about, as at its end; else `report` here."""
    return folders[0] if len(folders) == 1 and (folders[0] / "sweep.yaml").is_file() else Path("report")


def show_study(study: Study) -> None:
    """Print the headline table, the comparisons and the notes; a narrow terminal gets fewer columns."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    _show(console, headline(study), "Comparison")
    if study.comparisons:
        _show(console, comparisons(study), "Which is better (test accuracy)")
    for note in (*study.notes, *filter(None, [study.replaced])):
        console.print(for_table(note), highlight=False)


def _show(console: Console, table: Table, title: str) -> None:
    left_out = set() if console.width >= WIDE else set(LESS_NEEDED)
    kept = [column for column, name in enumerate(table.header) if name not in left_out]
    shown = Shown(title=title, title_justify="left")
    for column in kept:
        shown.add_column(for_table(table.header[column]), justify="left" if table.is_left(column) else "right")
    for row in table.rows[:MOST_ROWS]:
        shown.add_row(*(for_table(row[column]) for column in kept))
    console.print(shown)
    if len(table.rows) > MOST_ROWS:
        console.print(printable(f"{len(table.rows) - MOST_ROWS} more are in report.md."), highlight=False)
    if len(kept) < len(table.header):
        console.print("More columns are in report.md.", highlight=False)
