"""`cnnbench report`: compare runs, and print the comparison as tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import ReportOptions
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.report.section_tables import tabulate_folds, tabulate_variance
from cnnbench.report.study import Study
from cnnbench.report.tables import Table, tabulate_comparisons, tabulate_groups
from cnnbench.report.writing import write_report
from cnnbench.runs.folder import SWEEP
from cnnbench.storage.text import format_output_path

NAME, VERDICT = 20, 50  # least widths of columns on the terminal
MOST_ROWS = 40


def report(options: ReportOptions) -> None:
    """Write a report of runs and sweeps; print its tables and, last, its folder."""
    delta = None if options.delta is None else convert_points("--delta", options.delta)
    folders = [find_folder(folder) for folder in options.folders]
    place = options.out or choose_out(folders)
    study = write_report(
        folders,
        place,
        baseline=options.baseline,
        target=options.target,
        latex=options.latex,
        by=options.by,
        delta=delta,
    )
    show_study(study)
    print(format_output_path(place))


def convert_points(option: str, points: float) -> float:
    """A difference in percentage points as a share; a ValueError unless it lies between 0 and 100."""
    if not 0 < points < 100:
        raise ValueError(f"{option} {points:g}: must be a difference in points above 0 and below 100, such as 0.1")
    return points / 100


def choose_out(folders: Sequence[Path]) -> Path:
    """The folder of a report: the sweep itself if only one is reported, else `report` in the current folder."""
    return folders[0] if len(folders) == 1 and (folders[0] / SWEEP).is_file() else Path("report")


def show_study(study: Study) -> None:
    """Print the groups, the comparisons and the notes. Sentences replace a table that is too wide."""
    console = make_console()
    groups, comparisons = tabulate_groups(study), tabulate_comparisons(study)
    left_out = show_report_table(console, groups, "Comparison")
    if study.most_folds:
        left_out += show_report_table(console, tabulate_folds(study))
    if study.comparisons:
        left_out += show_report_table(
            console, comparisons, sentences=[one.sentence for one in study.comparisons[:MOST_ROWS]]
        )
    if study.variance:
        left_out += show_report_table(console, tabulate_variance(study))
    if (more := max(len(groups.rows), len(comparisons.rows)) - MOST_ROWS) > 0:
        show_text(console, f"{more} more are in report.md.")
    if left_out:
        show_text(console, "More columns are in report.md.")
    for note in study.notes:
        show_text(console, note.text)


def show_report_table(console: Console, table: Table, title: str = "", *, sentences: Sequence[str] = ()) -> list[str]:
    """Show a table of a report; return the headings of the columns that were left out."""
    table = table.adapt_to("text")
    widths = {"number": None, "name": NAME, "words": NAME, "status": NAME}
    columns = [
        Column(column.heading, VERDICT if column.title == "verdict" else widths[column.kind], column.optional)
        for column in table.columns
    ]
    return show_table(console, title or table.title, columns, table.texts[:MOST_ROWS], sentences=sentences)
