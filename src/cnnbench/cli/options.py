"""The arguments and options of commands that have many, each declared once with its help text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.choices import complete_claim, complete_data, complete_one_of, complete_override
from cnnbench.quality.findings import KINDS as FINDINGS

OVERRIDES_HELP = "Overrides such as model=mlp trainer.epochs=5; `cnnbench list models` shows the models."

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help=OVERRIDES_HELP, autocompletion=complete_override, show_default=False),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run, or `latest`.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per batch, instead of the run's own.")]
ABSTAIN_HELP = "Predict all classes that fit, or 'unknown', without the true class for at most this SHARE of images."
Abstain = Annotated[float | None, typer.Option(metavar="SHARE", help=ABSTAIN_HELP)]
Split = Annotated[str, typer.Option(help="train, val or test.", autocompletion=complete_one_of("train", "val", "test"))]
Root = Annotated[
    str | None, typer.Option(envvar="CNNBENCH_DATA", help="The folder of datasets, if they have moved since the run.")
]
# Repeated here, because help must not import torch, as the modules that define them do; a test compares the names.
CLAIM_ACTIONS = ("list", "run", "report", "measure")
CHANGES = ("shift", "rotation", "scale", "noise", "blur", "contrast", "occlusion")


@dataclass(frozen=True)
class EvaluateOptions:
    """What `cnnbench evaluate` takes."""

    run: Run
    split: Split = "test"
    data: Annotated[
        str | None, typer.Option(help="Measure on another dataset with the same classes.", autocompletion=complete_data)
    ] = None
    path: Annotated[
        str | None,
        typer.Option(help="Another image folder or file; for a run of other data, with --data image_folder."),
    ] = None
    exclude: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also measure without these images: a CSV list, as `cnnbench check` writes."),
    ] = None
    root: Root = None
    device: Device = None
    batch_size: BatchSize = None
    abstain: Abstain = None
    out: Annotated[Path | None, typer.Option(help="Write the results here instead of into the run folder.")] = None
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Fit a temperature on validation; it is kept.")] = False


@dataclass(frozen=True)
class PredictOptions:
    """What `cnnbench predict` takes."""

    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The folder of a finished run, or `latest`; left out with --model."),
    ] = None
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Images, folders, patterns, or - for a list on standard input."),
    ] = None
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Predict with this file of cnnbench export --format onnx.")
    ] = None
    top: Annotated[int, typer.Option(min=1, help="The number of classes to show for each image, likeliest first.")] = 1
    abstain: Abstain = None
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="table, csv or json (an array, with one object per line).",
            autocompletion=complete_one_of("table", "csv", "json"),
        ),
    ] = "table"
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write to this file instead of printing; it appears at the end. With --explain: the pictures' folder."
        ),
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw each image beside a heat map of what its answer rests on.")
    ] = False
    batch_size: BatchSize = None
    device: Device = None
    invert: Annotated[bool, typer.Option("--invert", help="Invert the images, such as black ink on white paper.")] = (
        False
    )
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Paths on standard input end with a null byte instead of a line feed.")
    ] = False


@dataclass(frozen=True)
class RobustnessOptions:
    """What `cnnbench robustness` takes."""

    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Finished runs, sweeps, or folders of them; or `latest`.")
    ]
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND,…", help=f"The changes to make: {', '.join(CHANGES)}; by default all."),
    ] = None
    split: Split = "test"
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Measure a random sample of this many images; by default all.")
    ] = None
    max_shift: Annotated[
        int | None, typer.Option(min=1, help="The longest shift in pixels along each axis; by default 2.")
    ] = None
    form: Annotated[
        str,
        typer.Option("--format", help="table, csv or json.", autocompletion=complete_one_of("table", "csv", "json")),
    ] = "table"
    out: Annotated[
        Path | None,
        typer.Option(help="Write all results here, with one picture for all runs, instead of into each run folder."),
    ] = None
    root: Root = None
    device: Device = None
    batch_size: BatchSize = None


@dataclass(frozen=True)
class VerifyOptions:
    """What `cnnbench verify` takes."""

    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Finished runs, sweeps, or folders of them; or `latest`.")
    ]
    sample: Annotated[int | None, typer.Option(min=1, help="Verify this many of the runs, drawn at random.")] = None
    seed: Annotated[int, typer.Option(min=0, help="The seed of --sample.")] = 0
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Test the stored weights again, but do not train.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
    path: Annotated[
        str | None, typer.Option(help="The image folder or file of runs with a data.path, if it has moved.")
    ] = None
    root: Root = None


@dataclass(frozen=True)
class CheckOptions:
    """What `cnnbench check` takes."""

    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="The data, as for train: data=mnist, or data=image_folder data.path=DIR.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="FINDING,…",
            help=f"Exit with 1 if there are any of these: {', '.join(FINDINGS)}.",
            autocompletion=complete_one_of(*FINDINGS),
        ),
    ] = None
    labels: Annotated[bool, typer.Option("--labels", help="Also look for wrong labels, which needs cleanlab.")] = False
    out: Annotated[
        Path | None,
        typer.Option(help="Write the results here instead of into outputs/check/, in a folder of the data."),
    ] = None


@dataclass(frozen=True)
class ClaimOptions:
    """What `cnnbench claim` takes."""

    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION", help="list, run, report or measure.", autocompletion=complete_one_of(*CLAIM_ACTIONS)
        ),
    ]
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID|DIR|MEASURE",
            help="For run: claims such as C01, or all. For report: folders, by default outputs/claims. For measure: a "
            "measure, its options and runs; nothing lists the measures.",
            autocompletion=complete_claim,
            show_default=False,
        ),
    ] = None
    scale: Annotated[
        str,
        typer.Option(
            help="quick: minutes; full: the protocol worth citing.", autocompletion=complete_one_of("quick", "full")
        ),
    ] = "quick"
    data: Annotated[
        str | None, typer.Option(help="Test the claim on another dataset.", autocompletion=complete_data)
    ] = None
    predict: Annotated[
        str | None,
        typer.Option(
            metavar="yes|no",
            help="Whether you expect the claim to hold; recorded before the run.",
            autocompletion=complete_one_of("yes", "no"),
        ),
    ] = None
    language: Annotated[
        str,
        typer.Option(help="Of pages and of what is printed: en or pt.", autocompletion=complete_one_of("en", "pt")),
    ] = "en"
    out: Annotated[
        Path | None, typer.Option(help="For report: the folder of its page and tables, by default class-report.")
    ] = None


@dataclass(frozen=True)
class ExplainOptions:
    """What `cnnbench explain` takes."""

    run: Run
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Show these images: a file, a folder or a pattern; may be repeated."),
    ] = None
    test: Annotated[int, typer.Option(min=1, help="Without --images: the number of test images to show, up to 8.")] = 5
    language: Annotated[
        str, typer.Option(help="The language of the page: en or pt.", autocompletion=complete_one_of("en", "pt"))
    ] = "en"
    path: Annotated[str | None, typer.Option(help="The run's image folder or file, if it has moved.")] = None
    root: Root = None
    device: Device = None
    batch_size: BatchSize = None
    out: Annotated[Path | None, typer.Option(help="Write the results here instead of into the run folder.")] = None


@dataclass(frozen=True)
class DrawOptions:
    """What `cnnbench draw` takes."""

    run: Run
    language: Annotated[
        str,
        typer.Option(
            help="The language of the page at first: en or pt; it has a switch.",
            autocompletion=complete_one_of("en", "pt"),
        ),
    ] = "en"
    path: Annotated[str | None, typer.Option(help="The run's image folder or file, if it has moved.")] = None
    root: Root = None
    out: Annotated[Path | None, typer.Option(help="Write the page to this file instead of draw.html in the run.")] = (
        None
    )


@dataclass(frozen=True)
class SummaryOptions:
    """What `cnnbench summary` takes."""

    overrides: Overrides = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    compare: Annotated[
        str | None,
        typer.Option(help="Compare models, each with its own overrides: 'lenet5,lenet5 model.width=2,mlp'."),
    ] = None
    channels: Annotated[int | None, typer.Option(min=1, help="Input channels, instead of the dataset's.")] = None
    image_size: Annotated[
        str | None, typer.Option(help="Height and width, instead of the dataset's: 32 or 32x48.", metavar="N|HxW")
    ] = None
    num_classes: Annotated[int | None, typer.Option(min=1, help="Classes, instead of the dataset's.")] = None
