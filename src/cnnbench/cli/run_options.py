"""The commands that take the folders of runs: a class for each, as in `options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.completion import complete_data, complete_one_of
from cnnbench.cli.options import AsJson, Language

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run, or `latest`.")]
Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Finished runs, sweeps, or folders of them; or `latest`.")
]
Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Runs, sweeps or folders of them, even unfinished; or `latest`.")
]
Split = Annotated[str, typer.Option(help="train, val or test.", autocompletion=complete_one_of("train", "val", "test"))]
Root = Annotated[
    str | None, typer.Option(envvar="CNNBENCH_DATA", help="The folder of datasets, if they have moved since the run.")
]
DataPath = Annotated[str | None, typer.Option(help="The image folder or file of a run, if it has moved.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per batch, instead of the run's own.")]
ABSTAIN_HELP = "Predict all classes that fit, or 'unknown', without the true class for at most this SHARE of images."
Abstain = Annotated[float | None, typer.Option(metavar="SHARE", help=ABSTAIN_HELP)]
Baseline = Annotated[
    str | None,
    typer.Option(help="The group to compare with, such as model=mlp; by default the experiment's or the first."),
]
Out = Annotated[Path | None, typer.Option(help="Write the results here instead of into the run folder.")]
# Repeated here, because help must not import torch, as the module that defines them does; a test compares the names.
CHANGES = ("shift", "rotation", "scale", "noise", "blur", "contrast", "occlusion")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a finished run again.

    Measures its best weights on its test images or on other data, and writes the results to its folder.
    """

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
    out: Out = None
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Fit a temperature on validation; it is kept.")] = False


@dataclass(frozen=True)
class PredictOptions:
    """Predict the classes of images.

    Images are preprocessed as in the run. A file that cannot be read is reported on standard error. The other files
    are predicted, and the exit code is 1.
    """

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
    """Measure finished runs on changed test images.

    Images are shifted, rotated, rescaled, noisy, blurred, pale or occluded. For each strength, prints the accuracy
    and the share of images that keep their predicted class. Runs that differ only in their seeds form a group.
    """

    runs: Runs
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
class ExplainOptions:
    """Draw what a finished run's network sees.

    Shows filters, receptive fields, feature maps, heat maps, an embedding and mistakes. Writes a PNG file for each
    picture, and a page with all of them. The last line printed is the page.
    """

    run: Run
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Show these images: a file, a folder or a pattern; may be repeated."),
    ] = None
    test: Annotated[int, typer.Option(min=1, help="Without --images: the number of test images to show, up to 8.")] = 5
    language: Language = "en"
    path: DataPath = None
    root: Root = None
    device: Device = None
    batch_size: BatchSize = None
    out: Out = None


@dataclass(frozen=True)
class DrawOptions:
    """Write a page to draw on, for a finished run's network.

    The network answers in the browser, offline, while you draw. The page shows class probabilities, feature maps,
    filters, receptive fields and what the answer rests on. The last line printed is the page.
    """

    run: Run
    language: Language = "en"
    path: DataPath = None
    root: Root = None
    out: Annotated[Path | None, typer.Option(help="Write the page to this file instead of draw.html in the run.")] = (
        None
    )


@dataclass(frozen=True)
class ExportOptions:
    """Write a finished run's network to a file for other programs.

    The formats are ONNX, torch.export and safetensors. ONNX and torch.export hold the preprocessing: images in,
    probabilities out. Before the file appears, it must give the run's own answers for all test images; otherwise
    the exit code is 1. The last line printed is the file.
    """

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
    path: DataPath = None
    root: Root = None


@dataclass(frozen=True)
class ReportOptions:
    """Compare runs, with spread, intervals and tests. Writes results.csv, groups.csv, report.md and report.html.

    Runs that differ only in their seeds form a group. Runs on different test sets are not compared. The last line
    printed is the report's folder.
    """

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
class VerifyOptions:
    """Verify the figures of finished runs.

    Trains them again or, on another machine, tests their weights again. Prints a line for each run: reproduced to
    the bit, figures agree, does NOT agree, or cannot be verified. The exit code is 1 if one of them was not
    confirmed. Nothing in their folders changes.
    """

    runs: Runs
    sample: Annotated[int | None, typer.Option(min=1, help="Verify this many of the runs, drawn at random.")] = None
    seed: Annotated[int, typer.Option(min=0, help="The seed of --sample.")] = 0
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Test the stored weights again, but do not train.")
    ] = False
    as_json: AsJson = False
    path: DataPath = None
    root: Root = None


@dataclass(frozen=True)
class PlanOptions:
    """Plan how many seeds a comparison needs.

    Shows how many seeds, and minutes of training, would find a difference of accuracies in 80 % of cases. Computes
    this from the spread over the seeds of finished runs, for each test of a report: the sign-flip test with Holm's
    correction, the paired t-test, and the anytime test.
    """

    folders: Folders
    difference: Annotated[
        float, typer.Option(metavar="POINTS", help="The difference to find, in percentage points, such as 0.2.")
    ]
    baseline: Baseline = None
    as_json: AsJson = False
