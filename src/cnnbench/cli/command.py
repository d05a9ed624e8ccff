"""The program, and how a function becomes one of its commands."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

import cnnbench
from cnnbench.cli.completion import Install, Show
from cnnbench.cli.errors import ExitCodes
from cnnbench.cli.part_options import PluginOption, is_plugins

app = typer.Typer(
    name="cnnbench",
    help="Train, measure and compare convolutional networks on real images.",
    invoke_without_command=True,  # without a command, `set_program_options` prints the help
    add_completion=False,  # Typer's own scripts put a space after `key=`, so values could not be completed
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str | None = None, *, parts: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command. The fields of its parameter `options`, if it has one, are its arguments and options.

    Args:
        parts: whether it uses registered parts, and so the plug-ins of installed packages.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        options = get_type_hints(function).get("options")

        @functools.wraps(function)
        def run(plugin: list[str] | None = None, **given: Any) -> None:
            with ExitCodes():
                overrides = given.get("overrides") or []
                if plugin or any(map(is_plugins, overrides)) or (parts and _has_installed_plugins()):
                    from cnnbench.cli.plugin_options import load_plugins
                    from cnnbench.cli.streams import show_log_warnings

                    show_log_warnings()  # code that has changed since a run
                    load_plugins(plugin or [], overrides, installed=parts)
                function(**({"options": options(**given)} if options else given))

        # Typer reads the signature, so the fields of the dataclass become the command's options.
        signature = inspect.signature(options or function)
        own = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=PluginOption)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), own], return_annotation=inspect.Signature.empty
        )
        run.__annotations__ = get_type_hints(options or function, include_extras=True) | {"plugin": PluginOption}
        app.command(name)(run)
        return function

    return register


def _has_installed_plugins() -> bool:
    from importlib.metadata import entry_points

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
