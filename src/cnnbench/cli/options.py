"""The commands that take a config or data: a class for each, and the arguments and options that several share.

The docstring of a class is the help of its command, and its fields are the arguments and options. These modules import
neither torch nor Hydra, because help and completion must be instant.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.choices import LISTED
from cnnbench.cli.completion import (
    complete_claim,
    complete_data,
    complete_one_of,
    complete_override,
    complete_tuning,
)
from cnnbench.quality.findings import KINDS as FINDINGS

OVERRIDES_HELP = "Overrides such as model=mlp trainer.epochs=5; `cnnbench list models` shows the models."
TUNE_HELP = "tune=SPACE, tune.trials=N and other tune keys, and overrides for every trial, as for train."
PLUGIN_HELP = "Load your own parts: a Python file, a folder with __init__.py or an installed module; may be repeated."

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help=OVERRIDES_HELP, autocompletion=complete_override, show_default=False),
]
PluginOption = Annotated[list[str] | None, typer.Option("--plugin", metavar="FILE", help=PLUGIN_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Language = Annotated[
    str, typer.Option(help="The language of the results: en or pt.", autocompletion=complete_one_of("en", "pt"))
]
# Repeated here, because help must not import torch, as the module that defines them does; a test compares the names.
CLAIM_ACTIONS = ("list", "run", "report", "measure")


def is_plugins(override: str) -> bool:
    """Whether an override is `plugins=[…]`."""
    return override.lstrip("+").startswith("plugins=")


@dataclass(frozen=True)
class TrainOptions:
    """Train and test a model. With -m, or an experiment of several values, train every combination.

    Without arguments, LeNet-5 learns the built-in digits. `resume=RUN` continues an interrupted run or sweep. The
    last line printed is the run (or sweep) folder.
    """

    overrides: Overrides = None
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run every combination of comma-separated values.")
    ] = False


@dataclass(frozen=True)
class TuneOptions:
    """Search for good values of config keys by validation score. The test images are never read.

    `tune=NAME` names a search space (`cnnbench list spaces`) or a YAML file. `resume=STUDY` continues a search. The
    last line printed is the study's folder.
    """

    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help=TUNE_HELP, autocompletion=complete_tuning, show_default=False),
    ] = None


@dataclass(frozen=True)
class FindLrOptions:
    """Find a learning rate with a range test of a few seconds.

    Trains with a learning rate that grows from step to step, and finds where the loss falls (Smith, 2017). Takes
    the overrides of train. Only training images are read, and no network is kept: lr_range.png, .csv and .json are
    written. The same command gives the same result. The last line printed is their folder.
    """

    overrides: Overrides = None
    low: Annotated[float, typer.Option("--from", min=1e-12, help="The learning rate of the first step.")] = 1e-6
    high: Annotated[float, typer.Option("--to", max=1e6, help="The learning rate of the last step.")] = 10.0
    steps: Annotated[int, typer.Option(min=20, max=100_000, help="The number of training steps, at most.")] = 200
    out: Annotated[Path | None, typer.Option(help="Write the results here instead of into outputs/find-lr/.")] = None


@dataclass(frozen=True)
class SummaryOptions:
    """Show a model layer by layer.

    A row has the output shape, window, parameters, multiply-accumulates and receptive field of a layer. --compare
    shows the totals of several models. No weights are allocated. With --channels, --image-size and --num-classes,
    no data are needed.
    """

    overrides: Overrides = None
    as_json: AsJson = False
    compare: Annotated[
        str | None,
        typer.Option(help="Compare models, each with its own overrides: 'lenet5,lenet5 model.width=2,mlp'."),
    ] = None
    channels: Annotated[int | None, typer.Option(min=1, help="Input channels, instead of the dataset's.")] = None
    image_size: Annotated[
        str | None, typer.Option(help="Height and width, instead of the dataset's: 32 or 32x48.", metavar="N|HxW")
    ] = None
    num_classes: Annotated[int | None, typer.Option(min=1, help="Classes, instead of the dataset's.")] = None


@dataclass(frozen=True)
class CheckOptions:
    """Check a dataset for duplicates, leaks and bad files.

    Finds images in two splits or with two labels, empty images, outliers and files that cannot be read. Near
    duplicates, such as an image that was compressed again, are found too. The exit code is 0 whatever is found,
    unless --fail-on names it. The last line printed is the folder of the results.
    """

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
class CheckPluginOptions:
    """Check that the parts of a plug-in work as every part must.

    For example, they must give the same result twice. Prints a table of all checks, and a sentence for each that
    fails. The exit code is 1 if any does.
    """

    source: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A Python file, a folder with __init__.py, or an installed module."),
    ]
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Overrides for all its parts, such as data.path=DIR.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class ClaimOptions:
    """Test the statements of the course.

    Lists them, runs some to a verdict, or reports verdicts and predictions. A verdict is supported, refuted or
    inconclusive, by a rule fixed before the data were seen. Claims share their runs, which are stored in
    outputs/claims. The last line printed by run and report is the path of the result.
    """

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
    language: Language = "en"
    out: Annotated[
        Path | None, typer.Option(help="For report: the folder of its page and tables, by default class-report.")
    ] = None


@dataclass(frozen=True)
class ConfigOptions:
    """Print the config that the overrides produce, as YAML. Only `train` checks what needs the data or the model."""

    overrides: Overrides = None
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Print the config of each job.")] = False


@dataclass(frozen=True)
class ListOptions:
    """List the available choices, one per line. Without KIND, list the kinds.

    `list keys` shows every key with its type, default, accepted values and meaning.
    """

    what: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help=f"One of: {', '.join(LISTED)}, keys.", autocompletion=complete_one_of(*LISTED, "keys")
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PREFIX", help="For keys: list those that start with it, such as trainer. Also plugins=[FILE]."
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="For keys: print JSON for programs.")] = False
    as_schema: Annotated[
        bool, typer.Option("--schema", help="For keys: print a JSON Schema for editors; PREFIX is a section.")
    ] = False
