"""`cnnbench robustness`: measure finished runs on changed images; tables, CSV or JSON, and a picture."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.run_options import CHANGES, RobustnessOptions
from cnnbench.cli.streams import show_warnings
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.metrics import find_metric
from cnnbench.registry import check_choice
from cnnbench.report.formatting import format_share, format_spread
from cnnbench.report.groups import group_runs, shorten_names
from cnnbench.report.robustness import Results, draw_picture, gather_points, list_kinds
from cnnbench.report.runs import Run, read_runs
from cnnbench.runs import robustness as files
from cnnbench.runs.folder import FINISHED, refuse_other_content, refuse_unwritable
from cnnbench.runs.robustness import Robustness
from cnnbench.storage.atomic import write_text
from cnnbench.storage.csv_tables import format_csv
from cnnbench.storage.text import format_output_path, format_path

FORMATS = ("table", "csv", "json")
Measured = list[tuple[Run, Robustness]]


def robustness(options: RobustnessOptions) -> None:
    """Measure the runs; write and print the results. With tables, the last line printed is the folder.

    Raises:
        ValueError: the command is wrong, or no run can be measured; the message says what the first one lacks.
        RunFailed: some runs could not be measured; the others have been.
    """
    check_choice("format", options.form, FORMATS)
    names = [] if options.kind is None else options.kind.split(",")
    kinds = [check_choice("kind of change", name.strip(), CHANGES) for name in names]
    out = options.out
    if out is not None:
        refuse_other_content(out, files.FILE)
    runs = read_runs([find_folder(folder) for folder in options.runs])
    groups, axes, _ = group_runs(runs, None)
    measured, problems = _measure_runs(runs, kinds, options)
    if not measured:
        raise ValueError(problems[0])
    results = {
        group.label: found for group in groups if (found := [one for run, one in measured if run.group == group.label])
    }
    short = shorten_names(groups, axes)
    named = [({"run": run.name, "group": run.group, "seed": run.seed}, found) for run, found in measured]
    rows = [{**run, "images": found.images, **row} for run, found in named for row in found.list_rows()]
    plain = [{**run, **found.model_dump()} for run, found in named]
    texts = {"csv": format_csv(rows), "json": json.dumps(plain, indent=2) + "\n"}
    if out is None:
        folders = [_write_beside(run, found, short) for run, found in measured]
    else:
        out.mkdir(parents=True, exist_ok=True)
        for form, text in texts.items():
            write_text(out / f"robustness.{form}", text)
        draw_picture(out / "robustness.png", results, short)
        folders = [out]
    show_warnings([*dict.fromkeys(note for _, found in measured for note in found.notes), *problems])
    if options.form == "table":
        _show_tables(results, short)
        if len(folders) > 1:
            print("--out DIR draws these runs in one picture, and cnnbench report compares them.")
        print(*(format_output_path(shorten(folder)) for folder in folders), sep="\n")
    else:
        sys.stdout.write(texts[options.form])
    if problems:
        raise RunFailed(f"{len(problems)} of {len(measured) + len(problems)} runs could not be measured")


def _measure_runs(runs: Sequence[Run], kinds: Sequence[str], options: RobustnessOptions) -> tuple[Measured, list[str]]:
    """Return the results of the runs that can be measured, and the problems of the others."""
    from cnnbench.experiment.measuring.measured_data import DataChoice
    from cnnbench.experiment.measuring.robustness import measure_robustness
    from cnnbench.training.progress import Diverged

    choice = DataChoice(split=options.split, root=options.root)
    measured: Measured = []
    problems = []
    for number, run in enumerate(runs, 1):
        if run.state != FINISHED:
            why = f": {run.message}" if run.message else ""
            problems.append(f"run {run.name} is not finished (its state: {run.state}{why})")
            continue
        if not run.counted:  # a later run has the same config and seeds, and would count twice
            continue
        if len(runs) > 1:
            print(f"measuring {format_path(shorten(run.path))} ({number} of {len(runs)})", file=sys.stderr)
        try:
            found = measure_robustness(
                run.path,
                kinds,
                choice=choice,
                max_images=options.max_images,
                max_shift=options.max_shift,
                device=options.device,
                batch_size=options.batch_size,
            )
        except (ValueError, OSError, Diverged) as error:
            problems.append(str(error))
        else:
            measured.append((run, found))
    return measured, problems


def _write_beside(run: Run, found: Robustness, short: dict[str, str]) -> Path:
    """Write a run's result to its folder. Kinds of change that were measured earlier on the same images are kept."""
    folder = files.locate_result(run.path, found.split)
    with refuse_unwritable(folder):
        earlier = files.read_robustness(folder)
        found = found.extend(earlier) if earlier else found
        files.write_robustness(folder, found)
        draw_picture(folder / "robustness.png", {run.group: [found]}, short)
    return folder


def _show_tables(results: Results, short: dict[str, str]) -> None:
    """Print a table for each kind of change: a row for each strength, with the figures of the groups side by side."""
    console, metric = make_console(), find_metric("accuracy")
    several = len(results) > 1
    columns = []
    for label in results:
        name = f"{short[label]} " if several else ""
        columns += [Column(f"{name}accuracy (%)"), Column(f"{name}same class", optional=1)]
    for kind, unit in list_kinds(results).items():
        rows: dict[float, list[str]] = {}
        for place, runs in enumerate(results.values()):
            for point in gather_points(runs, kind):
                row = rows.setdefault(point.strength, [f"{point.strength:g}", *[""] * len(columns)])
                figures = format_spread(point.accuracy, metric), format_share(point.consistency.mean)
                row[2 * place + 1 : 2 * place + 3] = figures  # the two columns of this group
        show_table(console, kind, [Column(unit), *columns], [rows[strength] for strength in sorted(rows)])
    seeds = max(map(len, results.values()))
    spread = f"accuracy: mean ± standard deviation over {seeds} seeds; " if seeds > 1 else ""
    show_text(console, f"{spread}same class: the share of the images whose class is that of the unchanged image.")
