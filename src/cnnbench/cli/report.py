"""`cnnbench report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.tables import Column, build_table, make_console, show_table, show_text
from cnnbench.report.study import Study
from cnnbench.report.tables import Table, comparisons, headline
from cnnbench.report.writing import write_report
from cnnbench.storage.text import format_output_path

LESS_NEEDED = {
    "published F1": 2,
    "images/s": 2,
    "depth": 2,
    "effect": 2,
    "p, t": 2,
    "seconds": 2,
    "MACs": 1,
    "field": 1,
    "F1 macro": 1,
    "F1 macro [95 %]": 1,
}
NAME, VERDICT = 20, 50  # columns of the terminal, at least
MOST_ROWS = 40


def report(folders: Sequence[Path], *, out: Path | None, **options: Any) -> None:
    """Compare runs and sweeps; prints the tables and, last, the folder of the report.

    Args:
        options: as in `write_report`.
    """
    folders = [find_folder(folder) for folder in folders]
    place = out or default_out(folders)
    study = write_report(folders, place, **options)
    show_study(study)
    print(format_output_path(place))


def default_out(folders: Sequence[Path]) -> Path:
    """Into the sweep, if it is one that is asked about, as at its end; else `report` here."""
    return folders[0] if len(folders) == 1 and (folders[0] / "sweep.yaml").is_file() else Path("report")


def show_study(study: Study) -> None:
    """Print the headline table, the comparisons and the notes; where a table has no room, sentences say the same."""
    console = make_console()
    table = headline(study)
    left_out = show_table(console, "Comparison", _columns(table), table.rows[:MOST_ROWS])
    more = len(table.rows) - MOST_ROWS
    if study.comparisons:
        table, title = comparisons(study), "Which is better (test accuracy)"
        more = max(more, len(table.rows) - MOST_ROWS)
        if found := build_table(console, title, _columns(table), table.rows[:MOST_ROWS]):
            console.print(found[0])
            left_out += found[1]
        else:
            show_text(console, title)
            for one in study.comparisons[:MOST_ROWS]:
                show_text(console, f"{one.a} against {one.b}: {one.words}", indent=2)
    if more > 0:
        show_text(console, f"{more} more are in report.md.")
    if left_out:
        show_text(console, "More columns are in report.md.")
    for note in (*study.notes, *filter(None, [study.replaced])):
        show_text(console, note)


def _columns(table: Table) -> list[Column]:
    return [
        Column(
            name, (VERDICT if name == "verdict" else NAME) if table.is_left(place) else None, LESS_NEEDED.get(name, 0)
        )
        for place, name in enumerate(table.header)
    ]
