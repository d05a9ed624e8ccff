"""The commands and their options. Each imports what it needs when it runs, so that help and completion are instant."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.completion import completion_init

import cnnbench
from cnnbench.cli.choices import LISTED, complete_data, complete_override, complete_tuning, list_choices, one_of
from cnnbench.cli.completion import Install, Show
from cnnbench.cli.errors import WRONG, exit_codes, leave
from cnnbench.cli.order import command_first
from cnnbench.cli.streams import prepare_streams
from cnnbench.cli.usage import UsageError, answer
from cnnbench.processes import signals

OVERRIDES_HELP = "Hydra overrides such as model=mlp trainer.epochs=5; `cnnbench list models` shows names."
TUNE_HELP = "tune=SPACE, tune.trials=N, tune.workers=N and the like, and overrides of every trial as for train."

app = typer.Typer(
    name="cnnbench",
    help="Train, measure and compare convolutional networks on real images.",
    invoke_without_command=True,
    add_completion=False,  # its own scripts leave a blank behind `key=`, and start over at it
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help=OVERRIDES_HELP, autocompletion=complete_override, show_default=False),
]


def main() -> NoReturn:
    """Run the command line; flags may stand anywhere."""
    prepare_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        leave("error: the current folder does not exist any more: change to another one", WRONG)
    arguments = sys.argv[1:] = [_as_meant(argument) for argument in sys.argv[1:]]
    if os.environ.get("CNNBENCH_DATA", "").startswith("~"):  # quoted, so that no shell has expanded it
        os.environ["CNNBENCH_DATA"] = os.path.expanduser(os.environ["CNNBENCH_DATA"])
    if "--debug" in arguments:
        exit_codes.debug = True
        sys.argv[1:] = [argument for argument in arguments if argument != "--debug"]
    names = [one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands]
    sys.argv[1:] = command_first(sys.argv[1:], names)
    if "_CNNBENCH_COMPLETE" in os.environ:
        completion_init()
    try:
        code = app(prog_name="cnnbench", standalone_mode=False)
    except UsageError as error:
        leave(f"error: {answer(error, sys.argv[1:])}", WRONG)
    finally:
        signals.quit_at_once()  # what is left is Python's own end
    raise SystemExit(code or 0)


def _as_meant(argument: str) -> str:
    """The argument without the line end of a script from Windows, and `--out=~/x` with the home folder.

    What belongs to a name that exists stays.
    """
    if os.path.lexists(argument) or os.path.lexists(argument.partition("=")[2]):
        return argument
    argument = argument.removesuffix("\r")
    option, equals, value = argument.partition("=")
    return f"{option}={os.path.expanduser(value)}" if equals and option.startswith("--") else argument


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cnnbench {cnnbench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors; may stand anywhere.")] = False,
    install_completion: Install = None,
    show_completion: Show = None,
) -> None:
    """Options of every command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def train(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run every combination of comma-separated values.")
    ] = False,
) -> None:
    """Train and test one config, or with -m (or an experiment) all combinations of several.

    Without arguments: LeNet-5 on the embedded digits. The last line printed is the run (or sweep) folder.
    `resume=RUN` goes on with a run that was interrupted.
    """
    with exit_codes():
        from cnnbench.cli.train import train as command

        command(overrides or [], multirun=multirun)


@app.command()
def tune(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help=TUNE_HELP, autocompletion=complete_tuning, show_default=False),
    ] = None,
) -> None:
    """Search for good values of a config's keys, chosen on the validation split; the test images are never read.

    `tune=NAME` names a search space (`cnnbench list spaces`) or one's own YAML file. The last line printed is the
    study's folder; `resume=STUDY` goes on with it.
    """
    with exit_codes():
        from cnnbench.cli.tune import tune as command

        command(overrides or [])


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    split: Annotated[
        str, typer.Option(help="train, val or test.", autocompletion=one_of("train", "val", "test"))
    ] = "test",
    data: Annotated[
        str | None, typer.Option(help="Another dataset with the same classes.", autocompletion=complete_data)
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="Another folder of images, or file; with --data image_folder for any run.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(envvar="CNNBENCH_DATA", help="Where datasets are stored, if not where the run found them."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a batch.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here, and not into the run's folder.")] = None,
) -> None:
    """Measure the best weights of a finished run; the figures are written beside it."""
    with exit_codes():
        from cnnbench.cli.evaluate import evaluate as command

        command(run, split=split, data=data, path=path, root=root, device=device, batch_size=batch_size, out=out)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Images, folders of them, patterns, or - for a list on standard input."),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show of each, the likeliest first.")] = 1,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="table, csv or json (an array, an object a line).",
            autocompletion=one_of("table", "csv", "json"),
        ),
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="Write to this file, once all is done, instead of printing.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a batch, instead of the run's own.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Take negatives: dark on light becomes light on dark.")
    ] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="The list on standard input ends paths with \\0.")] = False,
) -> None:
    """Predict the class of images, prepared as the run prepared its own.

    A file that cannot be read gets a line on standard error, the others are predicted, and the exit code is 1.
    """
    with exit_codes():
        from cnnbench.cli.predict import predict as command

        command(
            run,
            paths,
            top=top,
            form=form,
            out=out,
            batch_size=batch_size,
            device=device,
            invert=invert,
            null=null,
        )


@app.command()
def summary(
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(help="Models side by side, each with its own overrides: 'lenet5,lenet5 model.width=2,mlp'."),
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Input channels, instead of the data's.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Height and width, instead of the data's: 32, or 32x48.", metavar="N|HxW")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(min=1, help="Classes, instead of the data's.")] = None,
) -> None:
    """Show a model layer by layer: output shape, window, parameters, multiply-accumulates, receptive field.

    With --compare, the totals of several models. Nothing is allocated, and no data are needed where --channels,
    --image-size and --num-classes are all given.
    """
    with exit_codes():
        from cnnbench.cli.summary import summary as command

        command(
            overrides or [],
            compare=compare,
            as_json=as_json,
            channels=channels,
            image_size=image_size,
            num_classes=num_classes,
        )


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Runs, sweeps, or folders of them, finished or not.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write it, instead of into the sweep or, of anything else, ./report.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The group to compare with, such as model=mlp; else the experiment's, or the first."),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Show how many epochs it took to reach this accuracy, such as 0.98.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="name|tag", help="Make separate groups of runs that differ only in their name, or in their tags."
        ),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Also write report.tex, tables for a paper.")] = False,
) -> None:
    """Compare runs: results.csv, groups.csv, report.md and report.html, with spread, intervals and tests.

    Runs that differ only in their seed are a group. Runs on different test sets are not compared. The last line
    printed is the report's folder.
    """
    with exit_codes():
        from cnnbench.cli.report import report as command

        command(folders, out=out, baseline=baseline, target=target, latex=latex, by=by)


@app.command()
def config(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="The config of each job of a sweep, one after the other.")
    ] = False,
) -> None:
    """Print the config that the overrides make, as YAML; what only data and parts can tell is checked by train."""
    with exit_codes():
        from cnnbench.cli.config import show

        show(overrides or [], multirun=multirun)


@app.command(name="list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"One of: {', '.join(LISTED)}.", autocompletion=one_of(*LISTED)),
    ] = None,
) -> None:
    """Show what there is to choose from, a line each; without KIND, the kinds."""
    with exit_codes():
        if what is None:
            for kind in LISTED:
                typer.echo(f"cnnbench list {kind:<12} {', '.join(name for name, _ in list_choices(kind))}")
            return
        for name, description in list_choices(what):
            typer.echo(f"{name:<20} {description}".rstrip())
