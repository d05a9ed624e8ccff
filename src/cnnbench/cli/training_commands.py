"""The commands that train. Each imports its code only when it runs, so that help and completion are instant."""

from typing import Annotated

import typer

from cnnbench.cli.choices import complete_tuning
from cnnbench.cli.command import command
from cnnbench.cli.find_lr_options import FindLrOptions
from cnnbench.cli.options import Overrides

TUNE_HELP = "tune=SPACE, tune.trials=N and other tune keys, and overrides for every trial, as for train."


@command()
def train(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run every combination of comma-separated values.")
    ] = False,
) -> None:
    """Train and test a model. With -m, or an experiment of several values, train every combination.

    Without arguments, LeNet-5 learns the built-in digits. `resume=RUN` continues an interrupted run or sweep. The
    last line printed is the run (or sweep) folder.
    """
    from cnnbench.cli.train import train

    train(overrides or [], multirun=multirun)


@command()
def tune(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help=TUNE_HELP, autocompletion=complete_tuning, show_default=False),
    ] = None,
) -> None:
    """Search for good values of config keys by validation score. The test images are never read.

    `tune=NAME` names a search space (`cnnbench list spaces`) or a YAML file. `resume=STUDY` continues a search. The
    last line printed is the study's folder.
    """
    from cnnbench.cli.tune import tune

    tune(overrides or [])


@command(name="find-lr")
def find_lr(options: FindLrOptions) -> None:
    """Find a learning rate with a range test of a few seconds.

    Trains with a learning rate that grows from step to step, and finds where the loss falls (Smith, 2017). Takes
    the overrides of train. Only training images are read, and no network is kept: lr_range.png, .csv and .json are
    written. The same command gives the same result. The last line printed is their folder.
    """
    from cnnbench.cli.find_lr import find_lr

    find_lr(options)
