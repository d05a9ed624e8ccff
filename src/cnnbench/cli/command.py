"""The program, and how a function becomes one of its commands."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from cnnbench.cli.errors import ExitCodes

app = typer.Typer(
    name="cnnbench",
    help="Train, measure and compare convolutional networks on real images.",
    invoke_without_command=True,  # without a command, `set_program_options` prints the help
    add_completion=False,  # Typer's own scripts put a space after `key=`, so values could not be completed
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command. The fields of its parameter `options`, if it has one, are its arguments and options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        options = get_type_hints(function).get("options")

        @functools.wraps(function)
        def run(**given: Any) -> None:
            with ExitCodes():
                function(**({"options": options(**given)} if options else given))

        if options:  # Typer reads the signature, so the fields of the dataclass become the command's options
            run.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
            run.__annotations__ = get_type_hints(options, include_extras=True)
        app.command(name)(run)
        return function

    return register
