"""`cnnbench report` without the command line: from folders to the files of a report."""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import cnnbench
from cnnbench.processes.signals import deferred
from cnnbench.report.latex import latex as as_latex
from cnnbench.report.runs import Run
from cnnbench.report.study import Study, read_study
from cnnbench.report.tables import group_rows, markdown, run_rows
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.csv_tables import format_csv, read_csv
from cnnbench.storage.regular import read_bytes
from cnnbench.storage.text import format_path, make_printable

# Each file of a report by its beginning, and by what is in it too, which tell it from a file of somebody else's.
MARKS = {
    "results.csv": (b"run,group,state,counted,seed", b",folder"),
    "groups.csv": (b"group,", b",seeds,"),
    "report.md": (b"# Comparison", b"## How this was made"),
    "report.html": (b"<!doctype html>", b"Made by cnnbench"),
    "report.tex": (b"% \\usepackage{booktabs}", b"\\toprule"),
}
LARGEST = 2**28


class InTheWay(ValueError):
    """The folder holds what a report must not replace."""


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    baseline: str | None = None,
    target: float | None = None,
    latex: bool = False,
    strict: bool = True,
    by: str | None = None,
) -> Study:
    """Write `results.csv` (a row a run), `groups.csv`, `report.md`, `report.html` and, if asked, `report.tex`.

    They appear together: a report that cannot be made or written leaves an earlier one as it was.

    Args:
        out: a folder, made if it is not there. A report of the same runs in it is replaced, and the study's `replaced`
            says so.
        baseline, target, strict, by: as in `read_study`.

    Raises:
        InTheWay: `out` holds a report of other runs, or a file of such a name that is not a report's.
        ValueError: as `read_study`, before anything is written.
        OSError: the files cannot be written.
    """
    from cnnbench.report.page import page  # what draws takes a second to import

    study = read_study(folders, baseline=baseline, target=target, strict=strict, by=by)
    earlier = _earlier(out, study.runs)
    options = {"--out": out, "--baseline": baseline, "--target": target and f"{target:g}", "--by": by}
    command = _command(folders, options, latex)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, cnnbench {cnnbench.__version__}."
    texts = {
        "results.csv": format_csv(run_rows(study)),
        "groups.csv": format_csv(group_rows(study)),
        "report.md": markdown(study, command, made),
        **({"report.tex": as_latex(study)} if latex else {}),
        "report.html": page(study),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_together(out, texts)
        for name in earlier:
            if name not in texts:
                (out / name).unlink(missing_ok=True)  # a table of the report that is no more
    except OSError as error:
        raise OSError(
            f"the report cannot be written into {format_path(out)} ({error.strerror}): name another folder by --out DIR"
        ) from error
    if earlier:
        study.replaced = f"{format_path(out)} held an earlier report of these runs, which this one replaces."
    return study


def _write_together(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace files of a folder, none of them before all are on the disk."""
    with deferred(), ExitStack() as entered:
        files = [entered.enter_context(write_atomically(folder / name)) for name in texts]
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _earlier(out: Path, runs: Sequence[Run]) -> list[str]:
    """The files of an earlier report of the same runs.

    Raises:
        InTheWay: there is something else of such a name.
    """
    found = [name for name in MARKS if os.path.lexists(out / name)]
    way_out = "and is not overwritten: name another folder by --out DIR"
    try:
        strange = [name for name in found if not _is_ours(out / name)]
        rows = read_csv(out / "results.csv") if "results.csv" in found and not strange else []
    except (ValueError, OSError) as error:
        raise InTheWay(f"{error}: it is not a file of a report, {way_out}") from None
    if strange:
        raise InTheWay(f"{format_path(out / strange[0])} is not a file of a report, {way_out}")
    now, names = {run.path for run in runs}, {run.path.name for run in runs}
    before = {Path(row["folder"]): row.get("train_seconds", "") for row in rows if row.get("folder")}
    # A run that is no more where it was may have been moved together with its sweep, which its time tells; and one that
    # is may be its copy's.
    own = all(path.parent == out.resolve() for path in now)
    same = {(run.path.name, took) for run in runs for took in ("", str(run.summary.get("train_seconds", "")))}
    moved = {path for path, took in before.items() if not path.exists() and (path.name, took) in same}
    others = [path for path in before if path not in now | moved and not (own and path.name in names)]
    if others:
        raise InTheWay(f"{format_path(out)} holds a report of other runs, such as {format_path(others[0])}, {way_out}")
    inside = all(path.is_relative_to(out.resolve()) for path in now)
    if found and "results.csv" not in found and not inside:
        raise InTheWay(f"{format_path(out)} holds a report without its results.csv, {way_out}")
    return found


def _is_ours(path: Path) -> bool:
    content, (start, inside) = read_bytes(path, LARGEST).strip(), MARKS[path.name]
    return not content or (content.startswith(start) and inside in content)


def _command(folders: Sequence[Path], options: Mapping[str, object], latex: bool) -> str:
    """The command that makes the same report, on one line."""
    given = [str(word) for option in options.items() if option[1] is not None for word in option]
    return make_printable(
        shlex.join(["cnnbench", "report", *map(str, folders), *given, *(["--latex"] if latex else [])])
    )
