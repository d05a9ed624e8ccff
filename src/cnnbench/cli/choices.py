"""What a user can choose: names of parts and keys of the config, read from the YAML files alone."""

import dataclasses
from pathlib import Path

from cnnbench.registry import unknown

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
    from cnnbench.config import default_dict

    choices = groups()
    group, equals, _ = incomplete.partition("=")
    if equals:
        found = [f"{group}={name}" for name in choices.get(group, [])]
    else:
        keys = [
            f"{section}.{key}=" for section, keys in default_dict().items() if isinstance(keys, dict) for key in keys
        ]
        top = [f"{key}=" for key, value in default_dict().items() if not isinstance(value, dict)]
        found = [*(f"{name}=" for name in choices), *top, *keys]
    return [choice for choice in found if choice.startswith(incomplete)]


def complete_tuning(incomplete: str) -> list[str]:
    """As `complete_override`, and the keys of a search."""
    from cnnbench.tuning.settings import TuneSettings

    keys = [f"tune.{field.name}=" for field in dataclasses.fields(TuneSettings)]
    ours = [f"tune={name}" for name in spaces()] if incomplete.startswith("tune=") else ["tune=", *keys]
    return [*(choice for choice in ours if choice.startswith(incomplete)), *complete_override(incomplete)]
