"""`cnnbench report` without the command line: from folders to the files of a report."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import cnnbench
from cnnbench import results
from cnnbench.report.latex import latex as as_latex
from cnnbench.report.study import Study, read_study
from cnnbench.report.tables import group_rows, markdown, run_rows
from cnnbench.text import printable


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    baseline: str | None = None,
    target: float | None = None,
    latex: bool = False,
    strict: bool = True,
) -> Study:
    """Write `results.csv` (a row a run), `groups.csv`, `report.md`, `report.html` and, if asked, `report.tex`.

    Each file replaces an earlier one as a whole, so that a reader of a sweep that is running never sees half of one.

    Args:
        out: a folder, made if it is not there.
        baseline, target, strict: as in `read_study`.

    Raises:
        ValueError: as `read_study`, before anything is written.
        OSError: the files cannot be written.
    """
    from cnnbench.report.page import write_page  # what draws takes a second to import

    study = read_study(folders, baseline=baseline, target=target, strict=strict)
    out.mkdir(parents=True, exist_ok=True)
    results.write_csv(out / "results.csv", run_rows(study))
    results.write_csv(out / "groups.csv", group_rows(study))
    command = _command(folders, out, baseline, target, latex)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, cnnbench {cnnbench.__version__}."
    results.write_text(out / "report.md", markdown(study, command, made))
    if latex:
        results.write_text(out / "report.tex", as_latex(study))
    write_page(study, out)
    return study


def _command(folders: Sequence[Path], out: Path, baseline: str | None, target: float | None, latex: bool) -> str:
    """The command that makes the same report, on one line."""
    words = ["cnnbench", "report", *map(str, folders), "--out", str(out)]
    words += ["--baseline", baseline] if baseline is not None else []
    words += ["--target", f"{target:g}"] if target is not None else []
    words += ["--latex"] if latex else []
    return printable(shlex.join(words))
