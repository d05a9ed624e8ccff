"""`cnnbench claim measure`: the measures of claims on any finished run."""

import json
from collections.abc import Sequence
from pathlib import Path

from cnnbench import registry
from cnnbench.claims import measures as measures
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.tables import Column, make_console, show_table
from cnnbench.config.keys import describe_accepted, format_value
from cnnbench.report.runs import read_runs
from cnnbench.runs.folder import FINISHED


def measure_runs(words: Sequence[str]) -> None:
    """Print a measure of some runs, or the list of measures.

    Args:
        words: a measure, its options such as pixels=2, and folders of runs or sweeps; nothing lists the measures.

    Raises:
        ValueError: an unknown measure or option, or no run; nothing has been measured.
        RunFailed: a run could not be measured; the others are printed.
    """
    if not words:
        show_measures()
        return
    name = words[0]
    registry.find_part("measure", name)
    folders = [word for word in words[1:] if "=" not in word or Path(word).exists()]
    pairs = (word.split("=", 1) for word in words[1:] if word not in folders)
    options = {key: _parse_value(value) for key, value in pairs}
    registry.check_options("measure", name, options)
    if not folders:
        raise ValueError(f"claim measure {name}: name a finished run, a sweep, or `latest`")
    rows, problems = [], []
    for run in read_runs([find_folder(folder) for folder in folders]):
        try:
            if run.state != FINISHED:
                raise ValueError(f"{run.path} is {run.state}, and a measure needs a finished run")
            value = _measure(name, options, run.path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
        else:
            rows.append([run.name, run.given_name, "" if run.seed is None else str(run.seed), f"{value:.6g}"])
    if not rows:
        raise ValueError(problems[0])
    shown = " ".join([name, *(f"{key}={format_value(value)}" for key, value in options.items())])
    columns = [Column("run", 12), Column("name", 8), Column("seed"), Column(name)]
    show_table(make_console(), shown, columns, rows)
    if problems:
        raise RunFailed("; ".join(problems))


def _parse_value(text: str) -> object:
    """A number or a truth value; anything else remains text, and the option refuses it."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _measure(name: str, options: dict[str, object], path: Path) -> float:
    """The value of a measure for a run, or for the network that its config describes."""
    if registry.get_facts("measure", name)["source"] == "run":
        return float(registry.build("measure", name, options=options, run=FinishedRun.read(path)))
    from cnnbench.experiment.measuring.trained import load_trained

    return float(registry.build("measure", name, options=options, network=Network(load_trained(path).config)))


def show_measures() -> None:
    """Print each measure with its options and its meaning."""
    rows = []
    for name in registry.list_names("measure"):
        declared = registry.find_options_class("measure", name)
        fields = declared.model_fields if declared else {}
        options = (f"{key} ({describe_accepted(field)})" for key, field in fields.items())
        meaning = (registry.find_part("measure", name).__doc__ or "").split("\n\n")[0]
        rows.append([name, ", ".join(options), " ".join(meaning.split())])
    columns = [Column("measure", 20), Column("options", 12), Column("meaning", 24)]
    show_table(make_console(), "Measures", columns, rows, lines=False)
