"""Compare runs: the comparison of `cnnbench report`, with its verdicts."""

from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from cnnbench.api.arguments import check_folder, check_types
from cnnbench.api.results import Table, make_table
from cnnbench.api.session import open_session
from cnnbench.cli.report import convert_points
from cnnbench.cli.run_folders import find_folder
from cnnbench.report.csv_rows import list_groups, list_runs
from cnnbench.report.formatting import format_count
from cnnbench.report.reading import read_study
from cnnbench.report.study import Study
from cnnbench.report.writing import write_report


class Report:
    """A comparison of runs; in a notebook it shows verdicts, groups and charts.

    Attributes:
        folders: what is compared.
        study: everything that the report is made of.
    """

    def __init__(self, folders: list[Path], study: Study, options: dict[str, Any]) -> None:
        self.folders, self.study, self._options = folders, study, options

    @property
    def verdicts(self) -> list[str]:
        """A sentence for each comparison of two groups: the difference, its interval and the verdict."""
        return [one.sentence for one in self.study.comparisons]

    @property
    def notes(self) -> list[str]:
        """What a reader of the comparison must know."""
        return [note.text for note in self.study.notes]

    @property
    def groups(self) -> Table:
        """The groups of runs that differ only in their seeds, as in `groups.csv`."""
        return make_table(list_groups(self.study))

    @property
    def runs(self) -> Table:
        """The runs, as in `results.csv`."""
        return make_table(list_runs(self.study))

    def save(self, folder: str | Path) -> Path:
        """Write `report.html`, `report.md` and the tables, as `cnnbench report --out` does; return the folder."""
        with open_session(computes=False):
            place = check_folder(folder)
            write_report(self.folders, place, **self._options)
        return place

    def __repr__(self) -> str:
        return "\n".join([f"<cnnbench report of {format_count(len(self.study.runs), 'run')}>", *self.verdicts])

    def _repr_html_(self) -> str:
        from cnnbench.api.html import render_study  # not at the top: it imports matplotlib

        count = format_count(len(self.study.runs), "run")
        return render_study(f"Comparison of {count} in {format_count(len(self.study.groups), 'group')}", self.study)


def _find_folder(run: Any) -> Path:
    folder = getattr(run, "folder", run)
    if not isinstance(folder, str | Path):
        raise ValueError(f"runs: {run!r} is neither a run or sweep nor the path of a folder")
    return find_folder(folder)


def compare(
    runs: Any,
    *,
    baseline: str | None = None,
    target: float | None = None,
    delta: float | None = None,
    by: str | None = None,
) -> Report:
    """Compare runs and sweeps, as `cnnbench report` does.

    Args:
        runs: of `Run`, `Sweep` or folders, or one of these.
        baseline: the group to compare with, such as `model=mlp`; by default the experiment's or the first.
        target: an accuracy; the table shows how many epochs each run took to reach it.
        delta: groups whose accuracies differ by fewer points are equal.
        by: `name` or `tag`: runs that differ in it are in different groups.

    Raises:
        InvalidRequest: a folder without runs, runs on different test sets, a baseline that is no group.
    """
    with open_session(computes=False):
        if not isinstance(runs, Iterable) or isinstance(runs, str):  # a single one
            runs = [runs]
        folders = [_find_folder(run) for run in runs]
        if not folders:
            raise ValueError("runs: must name at least one run, sweep or folder")
        check_types(Real, "a number", target=target, delta=delta)
        check_types(str, "text", baseline=baseline, by=by)
        share = None if delta is None else convert_points("delta", delta)
        options: dict[str, Any] = {"baseline": baseline, "target": target, "by": by, "delta": share}
        return Report(folders, read_study(folders, **options), options)
