"""What a user can choose: names of parts and keys of the config, read from the YAML files alone."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from cnnbench.registry import unknown

_KEY = re.compile(r"^(  )?([a-z]\w*):", re.MULTILINE)
LISTED = {
    "models": "model",
    "data": "data",
    "augment": "augment",
    "experiments": "experiment",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
    "loggers": "logger",
    "spaces": "tune",
}


def config_dir() -> Path:
    """The folder of YAML files: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


def spaces() -> dict[str, Path]:
    """The search spaces of `cnnbench tune`, by name."""
    return {path.stem: path for path in sorted((config_dir() / "tune").glob("*.yaml"))}


def groups() -> dict[str, list[str]]:
    """The names in each config group of a run."""
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(config_dir().iterdir())
        if folder.is_dir() and folder.name not in ("hydra", "tune")
    }


def keys() -> list[str]:
    """Every key of a config: those of `config.py`, and those that a part's YAML file adds."""
    from cnnbench.config.schema import default_dict

    own = default_dict()
    top = [key for key, value in own.items() if not isinstance(value, dict)]
    found = [f"{section}.{key}" for section, inside in own.items() if isinstance(inside, dict) for key in inside]
    for group in own.keys() & groups().keys():
        for path in sorted((config_dir() / group).glob("*.yaml")):
            parent = ""
            for indent, key in _KEY.findall(path.read_text(encoding="utf-8")):
                parent = parent if indent else f"{key}."
                found.append(f"{group}.{parent}{key}" if indent else f"{group}.{key}")
    nested = {key.rpartition(".")[0] for key in found}
    return [*top, *(key for key in dict.fromkeys(found) if key not in nested and not key.endswith(".name"))]


def parts_with(group: str, key: str) -> list[str]:
    """The parts of a group whose YAML file has a key."""
    files = sorted((config_dir() / group).glob("*.yaml"))
    return [path.stem for path in files if ("", key) in _KEY.findall(path.read_text(encoding="utf-8"))]


def list_choices(what: str) -> list[tuple[str, str]]:
    """Name and one-line description of each choice: the first comment of its YAML file.

    Raises:
        ValueError: not a kind of choice.
    """
    if what not in LISTED:
        raise ValueError(unknown("list", what, LISTED))
    return [(path.stem, _description(path)) for path in sorted((config_dir() / LISTED[what]).glob("*.yaml"))]


def _description(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def complete_override(incomplete: str) -> list[str]:
    """What can follow on the command line: `model=` and the like, names after them, and keys of the config."""
    choices = groups()
    group, equals, value = incomplete.partition("=")
    if equals:
        before = incomplete[: len(incomplete) - len(value.rpartition(",")[2])]  # a sweep's values so far
        found = [f"{before}{name}" for name in choices.get(group, [])]
    else:
        found = [*(f"{name}=" for name in choices), *(f"{key}=" for key in keys())]
    return [choice for choice in found if choice.startswith(incomplete)]


def complete_tuning(incomplete: str) -> list[str]:
    """As `complete_override`, and the keys of a search."""
    from cnnbench.tuning.settings import TuneSettings

    keys = [f"tune.{field.name}=" for field in dataclasses.fields(TuneSettings)]
    ours = [f"tune={name}" for name in spaces()] if incomplete.startswith("tune=") else ["tune=", *keys]
    return [*(choice for choice in ours if choice.startswith(incomplete)), *complete_override(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """The names of datasets."""
    return [name for name in groups()["data"] if name.startswith(incomplete)]


def one_of(*choices: str) -> Callable[[str], list[str]]:
    """What completes a word that is one of some."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]
