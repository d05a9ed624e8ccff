"""Completion for bash, zsh and fish: a script for each, which calls `cnnbench` for suggestions, and the suggestions."""

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from cnnbench.cli.choices import find_config_dir, list_groups, list_keys, list_spaces, read_declarations
from cnnbench.cli.errors import ExitCodes
from cnnbench.registry import describe_unknown

SHELLS = ("bash", "zsh", "fish")


def complete_override(incomplete: str) -> list[str]:
    """Complete an override: groups and keys, and after `=` the names and words that they accept."""
    return _complete(incomplete, list_groups(), list_keys())


def complete_tuning(incomplete: str) -> list[str]:
    """Complete an override, or a key of a search."""
    search = [key for key in read_declarations() if key.startswith("tune.")]
    return _complete(incomplete, {"tune": [*list_spaces()]} | list_groups(), [*search, *list_keys()])


def _complete(incomplete: str, parts: dict[str, list[str]], known: list[str]) -> list[str]:
    key, equals, value = incomplete.partition("=")
    if not equals:
        return _select([f"{name}=" for name in [*parts, *known]], incomplete)
    from cnnbench.config.keys import list_choices  # not at the top, as in `read_declarations`

    before = incomplete[: len(incomplete) - len(value.rpartition(",")[2])]  # the earlier values of a sweep
    accepted = (word for field in read_declarations().get(key, []) for word in list_choices(field))
    return _select([f"{before}{word}" for word in parts.get(key) or dict.fromkeys(accepted)], incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Complete the name of a dataset."""
    return _select(list_groups()["data"], incomplete)


def complete_claim(incomplete: str) -> list[str]:
    """Complete the id of a claim, or `all`."""
    ids = [path.stem.partition("_")[0] for path in sorted((find_config_dir() / "claim").glob("*.yaml"))]
    return _select([*ids, "all"], incomplete)


def complete_one_of(*choices: str) -> Callable[[str], list[str]]:
    """Make a function that completes one of the choices."""
    return lambda incomplete: _select(choices, incomplete)


def _select(choices: Iterable[str], incomplete: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(incomplete)]


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
    line = f"[ -r {quoted} ] && source {quoted}\n"  # a shell starts without an error once cnnbench is uninstalled
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
