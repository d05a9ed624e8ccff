"""Explain a wrong command, and suggest one that works."""

import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import typer

from cnnbench.cli.choices import list_groups, list_keys

UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # click's; newer versions of Typer bundle their own click
COMMANDS_OF_OVERRIDES = ("train", "tune", "check", "summary", "config")
# What other programs call our keys.
USUAL = {
    "dataset": "data",
    "network": "model",
    "architecture": "model",
    "arch": "model",
    "optim": "optimizer",
    "learning_rate": "optimizer.lr",
    "pretrained": "model.weights",
    "checkpoint": "model.weights",
    "freeze": "model.freeze",
    "wd": "optimizer.weight_decay",
    "batch": "trainer.batch_size",
    "bs": "trainer.batch_size",
    "epoch": "trainer.epochs",
    "max_epochs": "trainer.epochs",
    "num_epochs": "trainer.epochs",
    "num_workers": "data.workers",
    "gpu": "trainer.device",
    "data_dir": "data.root",
    "data_path": "data.path",
    "img_size": "data.image_size",
    "early_stopping": "trainer.patience",
    "output": "hydra.run.dir",
    "output_dir": "hydra.run.dir",
    "outdir": "hydra.run.dir",
    "out": "hydra.run.dir",
    "seeds": "sweep.seeds",
    "trials": "tune.trials",
    "n_trials": "tune.trials",
}
COMMANDS = {
    "help": "-h",
    "version": "--version",
    "run": "train",
    "fit": "train",
    "test": "evaluate",
    "compare": "report",
}
# Hydra's own options, and what replaces them here.
HYDRA = {
    **dict.fromkeys(
        ("--cfg", "-c", "--resolve", "--info", "-i", "--hydra-help", "--package", "-p"),
        "cnnbench config KEY=VALUE… prints the composed config",
    ),
    **dict.fromkeys(
        ("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd"),
        "experiment=NAME chooses a config of several keys (cnnbench list experiments)",
    ),
}


def explain_usage(error: Any, arguments: Sequence[str]) -> str:
    """Explain a usage error of Typer in a line or two: what is wrong, and a command that works.

    Args:
        arguments: of the command line, without the program.
    """
    context = error.ctx
    command = context.command_path if context is not None else "cnnbench"
    help_ = f"{command} -h shows its arguments and options"
    option = getattr(error, "option_name", None)
    named = command.rpartition(" ")[2]
    # By name: where Typer bundles its own click, the class cannot be imported from the same place.
    if option and named in COMMANDS_OF_OVERRIDES and type(error).__name__ == "NoSuchOption":
        return f"{option} is not an option of {command}: {_find_replacement(option, arguments) or help_}"
    message = str(error.format_message()).rstrip(".")  # the errors below have their facts in no attribute
    extra = re.search(r"unexpected extra argument\S* \((.*)\)", message)
    if extra and "=" in extra[1]:
        key, _, value = extra[1].split()[0].partition("=")
        return f"{command} takes options, not KEY=VALUE: --{key.rpartition('.')[2].replace('_', '-')} {value} ({help_})"
    invalid = re.search(r"Invalid value for '(--[\w-]+)': Input should be (.*?)(, unable.*)?$", message)
    if invalid:
        value = _read_value(invalid[1], arguments)
        accepted = invalid[2].replace("a valid integer", "a whole number").replace("a valid number", "a number")
        accepted = re.sub(r"greater than or equal to (?=\d+\.)", "a number from ", accepted)
        accepted = accepted.replace("greater than or equal to", "a whole number from")
        hint = f", such as {value.replace(',', '.')}" if re.fullmatch(r"\d+,\d+", value) else ""
        return f"{invalid[1]}={value}: must be {accepted}{hint}"
    wrong = re.search(r"No such command '(.*?)'", message)
    if wrong and "=" in wrong[1]:
        return f"put a command first: cnnbench train {shlex.join(arguments)}"
    if wrong:
        names = ", ".join(context.command.list_commands(context))
        word = wrong[1].lower()
        near = [COMMANDS[word]] if word in COMMANDS else difflib.get_close_matches(word, names.split(", "), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"unknown command {wrong[1]!r}.{hint} Valid: {names}"
    return f"{message}. {help_}"


def find_meant(word: str) -> str | None:
    """Find the group or key that a user means by a word such as `--batch-size`, `lr` or `dataset`."""
    name = word.strip("-").replace("-", "_").lower()
    known = [*list_groups(), *list_keys()]
    last = {key.rpartition(".")[2]: key for key in reversed(known)}  # of keys that end alike, the first one
    if name in known:
        return name
    if name in USUAL or name in last:
        return USUAL.get(name) or last[name]
    whole, part = (difflib.get_close_matches(name, words, n=1, cutoff=0.75) for words in (known, {**last, **USUAL}))
    return whole[0] if whole else (last | USUAL)[part[0]] if part else None


def _find_replacement(option: str, arguments: Sequence[str]) -> str | None:
    """The override that replaces an option."""
    if option in HYDRA:
        return HYDRA[option]
    key = find_meant(option)
    if key is None:
        return None
    value = _read_value(option, arguments)
    return f"keys are written without dashes: {shlex.quote(f'{key}={value}') if value != '…' else f'{key}=…'}"


def _read_value(option: str, arguments: Sequence[str]) -> str:
    """The value of an option on the command line: what follows `=`, or the next word; `…` without one."""
    given = next((text for text in arguments if text.partition("=")[0] == option), option)
    rest = list(arguments[arguments.index(given) + 1 :]) if given in arguments else []
    return given.partition("=")[2] or (rest[0] if rest and not rest[0].startswith("-") and "=" not in rest[0] else "…")
