"""The program: its commands, and the way from a command line to the function of one.

The function of a command is imported when the command runs, because help and completion must be instant.
"""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Collection, Sequence
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from typer.completion import completion_init

import cnnbench
from cnnbench.cli import options, run_options
from cnnbench.cli.completion import Install, Show
from cnnbench.cli.errors import WRONG, ExitCodes, exit_with
from cnnbench.cli.options import PluginOption, is_plugins
from cnnbench.cli.streams import prepare_streams, show_log
from cnnbench.cli.usage import UsageError, explain_usage
from cnnbench.processes import signals

# In the order of the help: a command's name, its options, and its function in `cnnbench.cli`, which takes them.
COMMANDS: tuple[tuple[str, type, str], ...] = (
    ("train", options.TrainOptions, "train.train"),
    ("tune", options.TuneOptions, "tune.tune"),
    ("find-lr", options.FindLrOptions, "find_lr.find_lr"),
    ("evaluate", run_options.EvaluateOptions, "evaluate.evaluate"),
    ("predict", run_options.PredictOptions, "predict.predict"),
    ("summary", options.SummaryOptions, "summary.print_summary"),
    ("check", options.CheckOptions, "check.check"),
    ("check-plugin", options.CheckPluginOptions, "check_plugin.check_plugin"),
    ("robustness", run_options.RobustnessOptions, "robustness.robustness"),
    ("claim", options.ClaimOptions, "claim.claim"),
    ("explain", run_options.ExplainOptions, "explain.explain"),
    ("draw", run_options.DrawOptions, "draw.draw"),
    ("export", run_options.ExportOptions, "export.export"),
    ("report", run_options.ReportOptions, "report.report"),
    ("verify", run_options.VerifyOptions, "verify.verify"),
    ("plan", run_options.PlanOptions, "plan.plan"),
    ("config", options.ConfigOptions, "config.show_config"),
    ("list", options.ListOptions, "reference.list_names"),
)
WITHOUT_PARTS = ("report", "plan")  # they build no registered part, so they load no plug-in of an installed package
OF_THE_PROGRAM = ("--version", "--help", "-h", "--install-completion", "--show-completion")

app = typer.Typer(
    name="cnnbench",
    help="Train, measure and compare convolutional networks on real images.",
    invoke_without_command=True,  # without a command, `set_program_options` prints the help
    add_completion=False,  # Typer's own scripts put a space after `key=`, so values could not be completed
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line."""
    prepare_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        exit_with("error: the current folder no longer exists: change to another one", WRONG)
    os.environ.pop("_CNNBENCH_PLUGINS", None)  # only this command line names plug-ins, no surrounding process
    arguments = [_normalize(argument) for argument in sys.argv[1:]]
    ExitCodes.debug = "--debug" in arguments  # not left to Typer, which accepts it only before the command
    arguments = [argument for argument in arguments if argument != "--debug"]
    sys.argv[1:] = put_command_first(arguments, [name for name, _, _ in COMMANDS])
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


def put_command_first(arguments: Sequence[str], commands: Collection[str]) -> list[str]:
    """Move the command in front of the flags that precede it, because Typer reads those as the program's own.

    So `cnnbench -m train model=mlp,lenet5` works.
    """
    at = next((place for place, argument in enumerate(arguments) if argument in commands), 0)
    before = arguments[:at]
    if not before or any(argument in OF_THE_PROGRAM or not argument.startswith("-") for argument in before[:1]):
        return list(arguments)
    return [arguments[at], *before, *arguments[at + 1 :]]


def _register(name: str, declared: type, function: str) -> None:
    """Add a command to the program: an entry of `COMMANDS`."""

    def run(plugin: list[str] | None = None, **given: Any) -> None:
        with ExitCodes():
            overrides = given.get("overrides") or []
            installed = name not in WITHOUT_PARTS
            if plugin or any(map(is_plugins, overrides)) or (installed and _has_installed_plugins()):
                from cnnbench.cli.plugin_options import load_plugins  # it takes time that other commands save

                show_log(logging.WARNING)  # for example of code that has changed since a run
                load_plugins(plugin or [], overrides, installed=installed)
            module, _, attribute = function.rpartition(".")
            getattr(importlib.import_module(f"cnnbench.cli.{module}"), attribute)(declared(**given))

    # Typer reads the signature, so the fields of the dataclass become the command's options.
    signature = inspect.signature(declared)
    own = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=PluginOption)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), own], return_annotation=inspect.Signature.empty
    )
    run.__annotations__ = get_type_hints(declared, include_extras=True) | {"plugin": PluginOption}
    app.command(name, help=inspect.getdoc(declared))(run)


def _has_installed_plugins() -> bool:
    from importlib.metadata import entry_points  # not at the top: help and completion do without it

    return bool(entry_points(group="cnnbench.plugins"))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cnnbench {cnnbench.__version__}")
        raise typer.Exit


@app.callback()
def set_program_options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; accepted anywhere.")] = False,
    install_completion: Install = None,
    show_completion: Show = None,
) -> None:
    """Handle the options of the program itself; without a command, print the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in COMMANDS:
    _register(*command)
