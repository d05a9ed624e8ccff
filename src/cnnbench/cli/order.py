"""Accept flags before the command: `cnnbench -m train model=mlp,lenet5`."""

from collections.abc import Collection, Sequence

OF_THE_PROGRAM = ("--version", "--help", "-h", "--install-completion", "--show-completion")


def put_command_first(arguments: Sequence[str], commands: Collection[str]) -> list[str]:
    """Move the command in front of the flags that precede it, because Typer reads those as the program's own."""
    at = next((place for place, argument in enumerate(arguments) if argument in commands), 0)
    before = arguments[:at]
    if not before or any(argument in OF_THE_PROGRAM or not argument.startswith("-") for argument in before[:1]):
        return list(arguments)
    return [arguments[at], *before, *arguments[at + 1 :]]
