"""The arguments and options of the commands that compare runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Runs, sweeps or folders of them, even unfinished; or `latest`.")
]
Baseline = Annotated[
    str | None,
    typer.Option(help="The group to compare with, such as model=mlp; by default the experiment's or the first."),
]


@dataclass(frozen=True)
class ReportOptions:
    """What `cnnbench report` takes."""

    folders: Folders
    out: Annotated[
        Path | None, typer.Option(help="The output folder; by default the sweep, if it is the only DIR, else ./report.")
    ] = None
    baseline: Baseline = None
    target: Annotated[
        float | None, typer.Option(help="Show how many epochs a run takes to reach this accuracy, such as 0.98.")
    ] = None
    delta: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="Groups whose accuracies differ by less are equal; by default sweep.delta, if set."
        ),
    ] = None
    by: Annotated[
        str | None,
        typer.Option(metavar="name|tag", help="Put runs with different names (or tags) into different groups."),
    ] = None
    latex: Annotated[bool, typer.Option("--latex", help="Also write report.tex, tables for a paper.")] = False


@dataclass(frozen=True)
class PlanOptions:
    """What `cnnbench plan` takes."""

    folders: Folders
    difference: Annotated[
        float, typer.Option(metavar="POINTS", help="The difference to find, in percentage points, such as 0.2.")
    ]
    baseline: Baseline = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
