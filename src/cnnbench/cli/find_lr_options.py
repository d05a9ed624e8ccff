"""The arguments and options of `cnnbench find-lr`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.options import Overrides


@dataclass(frozen=True)
class FindLrOptions:
    """What `cnnbench find-lr` takes."""

    overrides: Overrides = None
    low: Annotated[float, typer.Option("--from", min=1e-12, help="The learning rate of the first step.")] = 1e-6
    high: Annotated[float, typer.Option("--to", max=1e6, help="The learning rate of the last step.")] = 10.0
    steps: Annotated[int, typer.Option(min=20, max=100_000, help="The number of training steps, at most.")] = 200
    out: Annotated[Path | None, typer.Option(help="Write the results here instead of into outputs/find-lr/.")] = None
