"""`cnnbench check`: look for duplicates, leaks, contradictions and outliers in a dataset."""

import os
from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli import compose
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import CheckOptions
from cnnbench.cli.streams import show_log, show_warnings
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.config.schema import Config
from cnnbench.config.value_types import NOT_IN_NAMES
from cnnbench.quality.findings import JSON_FILE, KINDS, DataCheck, write_check
from cnnbench.registry import check_choice
from cnnbench.runs.folder import refuse_other_content, refuse_unwritable
from cnnbench.storage.text import format_output_path, make_printable, to_unicode

CHECKS = Path("outputs", "check")


def check(options: CheckOptions) -> None:
    """Check a dataset; write the findings, print them as a table and, last, their folder.

    Raises:
        ValueError: the command is wrong, or the data cannot be loaded; nothing has been written.
        RunFailed: there are findings that `--fail-on` names.
    """
    fatal = _read_fatal(options)
    show_log()
    config = compose.compose_config(options.overrides or [])
    out = options.out or CHECKS / _name_data(config)
    refuse_other_content(out, JSON_FILE)
    from cnnbench.experiment.data_check import add_label_suspects, check_data, require_cleanlab
    from cnnbench.report.data_check import write_page

    if options.labels:
        require_cleanlab()  # before the data are read, which may take minutes
    found, images = check_data(config)
    if options.labels:
        networks, epochs = _compose_networks(options.overrides or [], images.dimensions)
        found = add_label_suspects(found, images, networks, epochs=epochs)
    with refuse_unwritable(out):
        write_check(out, found)
        write_page(out, found, images.read_picture)
    show_warnings(found.notes)
    _show_check(found)
    print(format_output_path(out))
    if fatal := [f"{found.count(kind):,} × {kind}" for kind in fatal if found.count(kind)]:
        raise RunFailed(f"{', '.join(fatal)} (--fail-on {options.fail_on})")


def _read_fatal(options: CheckOptions) -> list[str]:
    # A pipeline relies on the exit code, so a misspelt finding is an error and not a check that passes.
    if options.fail_on is None:
        return []
    fatal = [check_choice("finding of --fail-on", kind.strip(), KINDS) for kind in options.fail_on.split(",")]
    if "label" in fatal and not options.labels:
        raise ValueError("--fail-on label needs --labels: without it, no label is judged")
    return fatal


def _compose_networks(overrides: Sequence[str], dimensions: int) -> tuple[Config, int | None]:
    """The config of the networks that judge labels, and their epochs if the command sets them; its overrides win."""
    from cnnbench.experiment.data_check import RECIPE, SIGNAL_RECIPE

    config = compose.compose_config([*(RECIPE if dimensions == 2 else SIGNAL_RECIPE), *overrides])
    has_epochs = any(text.startswith("trainer.epochs=") for text in overrides)
    return config, config.trainer.epochs if has_epochs else None


def _name_data(config: Config) -> str:
    """A name for the folder of the result: that of the dataset, or of the user's folder or file of images."""
    path = config.data.options.get("path")
    name = to_unicode(os.path.basename(os.path.abspath(os.path.expanduser(path)))) if path else ""
    # A name from a stranger must not become a path, nor an escape sequence on the terminal.
    safe = "".join("_" if letter in NOT_IN_NAMES else letter for letter in make_printable(name))
    return safe or config.data.name


def _show_check(found: DataCheck) -> None:
    console = make_console()
    splits = ", ".join(f"{count:,} {name}" for name, count in found.splits.items())
    columns = [
        Column("finding", 16),
        Column("count"),
        Column("meaning", 30, optional=2),
        Column("list", 12, optional=1),
    ]
    rows = []
    for kind, finding in found.findings.items():
        has_list = any(case.excluded for case in finding.cases)
        rows.append([kind, f"{finding.count:,}", KINDS[kind].meaning, f"{kind}.csv" if has_list else ""])
    show_table(console, f"{found.data}: {splits} images, {len(found.class_names)} classes", columns, rows)
    show_text(console, "Pictures are in check.html; each list names the images to leave out.")
