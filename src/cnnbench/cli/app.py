"""The program, and the commands that do not train. Each imports its code only when it runs, as help must be instant."""

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.completion import completion_init

from cnnbench.cli import training_commands  # noqa: F401  # registers them, first in the help
from cnnbench.cli.choices import describe_choices
from cnnbench.cli.command import app, command
from cnnbench.cli.errors import WRONG, ExitCodes, exit_with
from cnnbench.cli.export_options import ExportOptions
from cnnbench.cli.options import (
    CheckOptions,
    ClaimOptions,
    DrawOptions,
    EvaluateOptions,
    ExplainOptions,
    Overrides,
    PredictOptions,
    RobustnessOptions,
    SummaryOptions,
    VerifyOptions,
)
from cnnbench.cli.order import put_command_first
from cnnbench.cli.part_options import CheckPluginOptions, ListOptions
from cnnbench.cli.report_options import PlanOptions, ReportOptions
from cnnbench.cli.streams import prepare_streams
from cnnbench.cli.usage import UsageError, explain_usage
from cnnbench.processes import signals


def main() -> NoReturn:
    """Run the command line."""
    prepare_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        exit_with("error: the current folder no longer exists: change to another one", WRONG)
    os.environ.pop("_CNNBENCH_PLUGINS", None)  # only this command line names plug-ins
    arguments = [_normalize(argument) for argument in sys.argv[1:]]
    ExitCodes.debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    names = [one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands]
    sys.argv[1:] = put_command_first(arguments, names)
    if "_CNNBENCH_COMPLETE" in os.environ:  # set by our completion scripts, which call this program for suggestions
        completion_init()
    try:
        code = app(prog_name="cnnbench", standalone_mode=False)
    except UsageError as error:
        exit_with(f"error: {explain_usage(error, sys.argv[1:])}", WRONG)
    finally:
        signals.quit_at_once()  # nothing is left to save
    raise SystemExit(code or 0)


def _normalize(argument: str) -> str:
    """Remove the carriage return of a script saved on Windows; expand `~` in `--out=~/x`, which shells leave alone."""
    # A file may really have such a name.
    if os.path.lexists(argument) or os.path.lexists(argument.partition("=")[2]):
        return argument
    argument = argument.removesuffix("\r")
    option, equals, value = argument.partition("=")
    return f"{option}={os.path.expanduser(value)}" if equals and option.startswith("--") else argument


@command()
def evaluate(options: EvaluateOptions) -> None:
    """Measure a finished run again.

    Measures its best weights on its test images or on other data, and writes the results to its folder.
    """
    from cnnbench.cli.evaluate import evaluate

    evaluate(options)


@command()
def predict(options: PredictOptions) -> None:
    """Predict the classes of images.

    Images are preprocessed as in the run. A file that cannot be read is reported on standard error. The other files
    are predicted, and the exit code is 1.
    """
    from cnnbench.cli.predict import predict

    predict(options)


@command()
def summary(options: SummaryOptions) -> None:
    """Show a model layer by layer.

    A row has the output shape, window, parameters, multiply-accumulates and receptive field of a layer. --compare
    shows the totals of several models. No weights are allocated. With --channels, --image-size and --num-classes,
    no data are needed.
    """
    from cnnbench.cli.summary import print_summary

    print_summary(options)


@command()
def check(options: CheckOptions) -> None:
    """Check a dataset for duplicates, leaks and bad files.

    Finds images in two splits or with two labels, empty images, outliers and files that cannot be read. Near
    duplicates, such as an image that was compressed again, are found too. The exit code is 0 whatever is found,
    unless --fail-on names it. The last line printed is the folder of the results.
    """
    from cnnbench.cli.check import check

    check(options)


@command(name="check-plugin")
def check_plugin(options: CheckPluginOptions) -> None:
    """Check that the parts of a plug-in work as every part must.

    For example, they must give the same result twice. Prints a table of all checks, and a sentence for each that
    fails. The exit code is 1 if any does.
    """
    from cnnbench.cli.check_plugin import check_plugin

    check_plugin(options)


@command()
def robustness(options: RobustnessOptions) -> None:
    """Measure finished runs on changed test images.

    Images are shifted, rotated, rescaled, noisy, blurred, pale or occluded. For each strength, prints the accuracy
    and the share of images that keep their predicted class. Runs that differ only in their seeds form a group.
    """
    from cnnbench.cli.robustness import robustness

    robustness(options)


@command()
def claim(options: ClaimOptions) -> None:
    """Test the statements of the course.

    Lists them, runs some to a verdict, or reports verdicts and predictions. A verdict is supported, refuted or
    inconclusive, by a rule fixed before the data were seen. Claims share their runs, which are stored in
    outputs/claims. The last line printed by run and report is the path of the result.
    """
    from cnnbench.cli.claim import claim

    claim(options)


@command()
def explain(options: ExplainOptions) -> None:
    """Draw what a finished run's network sees.

    Shows filters, receptive fields, feature maps, heat maps, an embedding and mistakes. Writes a PNG file for each
    picture, and a page with all of them. The last line printed is the page.
    """
    from cnnbench.cli.explain import explain

    explain(options)


@command()
def draw(options: DrawOptions) -> None:
    """Write a page to draw on, for a finished run's network.

    The network answers in the browser, offline, while you draw. The page shows class probabilities, feature maps,
    filters, receptive fields and what the answer rests on. The last line printed is the page.
    """
    from cnnbench.cli.draw import draw

    draw(options)


@command()
def export(options: ExportOptions) -> None:
    """Write a finished run's network to a file for other programs.

    The formats are ONNX, torch.export and safetensors. ONNX and torch.export hold the preprocessing: images in,
    probabilities out. Before the file appears, it must give the run's own answers for all test images; otherwise
    the exit code is 1. The last line printed is the file.
    """
    from cnnbench.cli.export import export

    export(options)


@command(parts=False)
def report(options: ReportOptions) -> None:
    """Compare runs, with spread, intervals and tests. Writes results.csv, groups.csv, report.md and report.html.

    Runs that differ only in their seeds form a group. Runs on different test sets are not compared. The last line
    printed is the report's folder.
    """
    from cnnbench.cli.report import report

    report(options)


@command()
def verify(options: VerifyOptions) -> None:
    """Verify the figures of finished runs.

    Trains them again or, on another machine, tests their weights again. Prints a line for each run: reproduced to
    the bit, figures agree, does NOT agree, or cannot be verified. The exit code is 1 if one of them was not
    confirmed. Nothing in their folders changes.
    """
    from cnnbench.cli.verify import verify

    verify(options)


@command(parts=False)
def plan(options: PlanOptions) -> None:
    """Plan how many seeds a comparison needs.

    Shows how many seeds, and minutes of training, would find a difference of accuracies in 80 % of cases. Computes
    this from the spread over the seeds of finished runs, for each test of a report: the sign-flip test with Holm's
    correction, the paired t-test, and the anytime test.
    """
    from cnnbench.cli.plan import plan

    plan(options)


@command()
def config(
    overrides: Overrides = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Print the config of each job.")] = False,
) -> None:
    """Print the config that the overrides produce, as YAML. Only `train` checks what needs the data or the model."""
    from cnnbench.cli.config import show

    show(overrides or [], multirun=multirun)


@command(name="list")
def list_names(options: ListOptions) -> None:
    """List the available choices, one per line. Without KIND, list the kinds.

    `list keys` shows every key with its type, default, accepted values and meaning.
    """
    if options.what == "keys" and len(options.prefixes) <= 1:
        from cnnbench.cli.reference import show_keys

        show_keys("".join(options.prefixes), as_json=options.as_json, as_schema=options.as_schema)
        return
    if options.prefixes or options.as_json or options.as_schema:
        raise ValueError("one PREFIX, --json and --schema are for `cnnbench list keys`")
    for line in describe_choices(options.what):
        typer.echo(line)
