"""The arguments and options of `cnnbench export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.choices import complete_one_of
from cnnbench.cli.options import Root, Run


@dataclass(frozen=True)
class ExportOptions:
    """What `cnnbench export` takes."""

    run: Run
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx, exported (torch.export) or state_dict (weights alone, safetensors).",
            autocompletion=complete_one_of("onnx", "exported", "state_dict"),
        ),
    ] = "onnx"
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write this file instead of one in the run folder.")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace the file, if it exists.")] = False
    path: Annotated[str | None, typer.Option(help="The run's image folder or file, if it has moved.")] = None
    root: Root = None
