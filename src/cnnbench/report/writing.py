"""Write the files of a report from run folders."""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import cnnbench
from cnnbench.processes.signals import defer
from cnnbench.report.csv_rows import RUN_COLUMNS, list_groups, list_runs
from cnnbench.report.documents import render_markdown
from cnnbench.report.latex import format_latex
from cnnbench.report.reading import read_study
from cnnbench.report.runs import Run
from cnnbench.report.study import Note, Study
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.csv_tables import format_csv, read_csv
from cnnbench.storage.regular import read_bytes
from cnnbench.storage.text import format_path, make_printable

# How each file of a report begins, and a text inside it: by these it is told from other people's files.
MARKS = {
    "results.csv": (",".join(RUN_COLUMNS[:5]).encode(), b",folder"),
    "groups.csv": (b"group,", b",seeds,"),
    "report.md": (b"# Comparison", b"## How this was made"),
    "report.html": (b"<!doctype html>", b"Made by cnnbench"),
    "report.tex": (b"% \\usepackage{booktabs}", b"\\toprule"),
}
LARGEST = 2**28


class FileInTheWay(ValueError):
    """A folder holds something that a report must not replace.

    Attributes:
        path: the file or folder in the way.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{format_path(path)} {reason}, and is not overwritten: name another folder by --out DIR")
        self.path = path


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    baseline: str | None = None,
    target: float | None = None,
    latex: bool = False,
    strict: bool = True,
    by: str | None = None,
    delta: float | None = None,
) -> Study:
    """Write `results.csv` (a row per run), `groups.csv`, `report.md`, `report.html` and, on request, `report.tex`.

    They appear together: if a report cannot be made or written, an earlier one stays as it was.

    Args:
        out: a folder, made if needed. It may hold an earlier report of the same runs, which is replaced; a note of the
            study says so.
        baseline, target, strict, by, delta: as in `read_study`.

    Raises:
        FileInTheWay: `out` holds a report of other runs, or a file of the same name that is not a report's.
        ValueError: as `read_study`, before anything is written.
        OSError: the files cannot be written.
    """
    from cnnbench.report.page import render_page  # matplotlib takes a second to import

    study = read_study(folders, baseline=baseline, target=target, strict=strict, by=by, delta=delta)
    earlier = _find_earlier_report(out, study.runs)
    options = {"--out": out, "--baseline": baseline, "--target": target and f"{target:g}", "--by": by}
    command = _write_command(folders, options | {"--delta": delta and f"{100 * delta:g}"}, latex)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, cnnbench {cnnbench.__version__}."
    texts = {
        "results.csv": format_csv(list_runs(study)),
        "groups.csv": format_csv(list_groups(study)),
        "report.md": render_markdown(study, command, made),
        **({"report.tex": format_latex(study)} if latex else {}),
        "report.html": render_page(study),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_together(out, texts)
        for name in earlier:
            if name not in texts:
                (out / name).unlink(missing_ok=True)  # a file that this report does not have
    except OSError as error:
        raise OSError(
            f"the report cannot be written into {format_path(out)} ({error.strerror}): name another folder by --out DIR"
        ) from error
    if earlier:
        text = f"{format_path(out)} held an earlier report of these runs, which this one replaces."
        study.notes.append(Note("replaced", text))
    return study


def _write_together(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace files of a folder, but none before all of them are on the disk."""
    with defer(), ExitStack() as entered:
        # Leaving the stack renames the files one after the other, when all of them are complete and on the disk.
        files = [entered.enter_context(write_atomically(folder / name)) for name in texts]
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _find_earlier_report(out: Path, runs: Sequence[Run]) -> list[str]:
    """The files of an earlier report of the same runs.

    Raises:
        FileInTheWay: a file of such a name is something else.
    """
    found = [name for name in MARKS if os.path.lexists(out / name)]
    for name in found:
        if not _is_report_file(out / name):
            raise FileInTheWay(out / name, "is not a file of a report")
    now, names = {run.path for run in runs}, {run.path.name for run in runs}
    before = _read_reported_runs(out / "results.csv") if "results.csv" in found else {}
    # A run that is gone may have been moved together with its sweep, as its training time shows; a run that is still
    # there may be the original of a copied sweep.
    own = all(path.parent == out.resolve() for path in now)
    same = {(run.path.name, seconds) for run in runs for seconds in ("", str(run.summary.get("train_seconds", "")))}
    moved = {path for path, seconds in before.items() if not path.exists() and (path.name, seconds) in same}
    others = [path for path in before if path not in now | moved and not (own and path.name in names)]
    if others:
        raise FileInTheWay(out, f"holds a report of other runs, such as {format_path(others[0])}")
    inside = all(path.is_relative_to(out.resolve()) for path in now)
    if found and "results.csv" not in found and not inside:
        raise FileInTheWay(out, "holds a report without its results.csv")
    return found


def _is_report_file(path: Path) -> bool:
    try:
        content, (start, inside) = read_bytes(path, LARGEST).strip(), MARKS[path.name]
    except (ValueError, OSError):  # too large, a folder, a pipe
        return False
    return not content or (content.startswith(start) and inside in content)


def _read_reported_runs(path: Path) -> dict[Path, str]:
    """The run folders of a `results.csv`, each with its training time as text."""
    try:
        rows = read_csv(path)
    except (ValueError, OSError):
        raise FileInTheWay(path, "is not a file of a report") from None
    return {Path(row["folder"]): row.get("train_seconds", "") for row in rows if row.get("folder")}


def _write_command(folders: Sequence[Path], options: Mapping[str, object], latex: bool) -> str:
    """The command that makes the same report, on one line."""
    given = [str(word) for option in options.items() if option[1] is not None for word in option]
    return make_printable(
        shlex.join(["cnnbench", "report", *map(str, folders), *given, *(["--latex"] if latex else [])])
    )
