"""Options about registered parts: plug-ins, their check, and lists."""

from dataclasses import dataclass
from typing import Annotated

import typer

from cnnbench.cli.choices import LISTED, complete_one_of, complete_override

PLUGIN_HELP = "Load your own parts: a Python file, a folder with __init__.py or an installed module; may be repeated."
PluginOption = Annotated[list[str] | None, typer.Option("--plugin", metavar="FILE", help=PLUGIN_HELP)]


def is_plugins(override: str) -> bool:
    """Whether an override is `plugins=[…]`."""
    return override.lstrip("+").startswith("plugins=")


@dataclass(frozen=True)
class CheckPluginOptions:
    """What `cnnbench check-plugin` takes."""

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
class ListOptions:
    """What `cnnbench list` takes."""

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

    @property
    def prefixes(self) -> list[str]:
        """The arguments that are not `plugins=[…]`."""
        return [text for text in self.overrides or [] if not is_plugins(text)]
