"""Completion for bash, zsh and fish: a script for each, which asks `cnnbench` itself for suggestions."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.choices import complete_one_of
from cnnbench.cli.errors import ExitCodes
from cnnbench.registry import describe_unknown

SHELLS = ("bash", "zsh", "fish")


def find_script(shell: str) -> Path:
    """The completion script for a shell.

    Raises:
        ValueError: the shell is not supported.
    """
    if shell not in SHELLS:
        raise ValueError(describe_unknown("shell", shell, SHELLS))
    return Path(__file__).with_name(f"cnnbench.{shell}")


def install(shell: str) -> Path:
    """Install completion for a shell; return the file that was changed.

    fish has a folder for such scripts. bash and zsh get a line in the file that they read when they start.

    Raises:
        ValueError: the shell is not supported.
    """
    script = find_script(shell)
    home = Path.home()
    if shell == "fish":
        place = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/cnnbench.fish"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(script.read_bytes())
        return place
    place = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    quoted = shlex.quote(str(script))
    line = f"[ -r {quoted} ] && source {quoted}\n"
    before = place.read_text(encoding="utf-8") if place.is_file() else ""
    if line not in before:
        end = "" if before.endswith("\n") or not before else "\n"
        with place.open("a", encoding="utf-8") as file:
            file.write(f"{end}{line}")
    return place


def _show(shell: str | None) -> None:
    if shell:
        with ExitCodes():
            typer.echo(find_script(shell).read_text(encoding="utf-8"), nl=False)
        raise typer.Exit


def _install(shell: str | None) -> None:
    if shell:
        with ExitCodes():
            typer.echo(f"installed in {install(shell)}: it takes effect in the next {shell}")
        raise typer.Exit


Install = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar="SHELL",
        callback=_install,
        is_eager=True,
        autocompletion=complete_one_of(*SHELLS),
        help="Install completion of commands, keys and names for bash, zsh or fish.",
    ),
]
Show = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar="SHELL",
        callback=_show,
        is_eager=True,
        autocompletion=complete_one_of(*SHELLS),
        help="Print the completion script that --install-completion installs.",
    ),
]
