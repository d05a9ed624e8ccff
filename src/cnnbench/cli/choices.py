"""The names of parts and keys that a user can choose, found without importing any part (completion must be instant)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.registry import describe_unknown, renew_with_parts

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

LISTED = {
    "models": "model",
    "data": "data",
    "augment": "augment",
    "experiments": "experiment",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
    "loggers": "logger",
    "spaces": "tune",
    "claims": "claim",
}


def find_config_dir() -> Path:
    """The folder of YAML files: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parents[1] / "configs"


_plugin_files: dict[tuple[str, str], Path] = {}


def set_plugin_files(files: Mapping[tuple[str, str], Path]) -> None:
    """Offer the YAML files of plug-ins, by group and name, beside ours.

    Raises:
        ValueError: a name of ours.
    """
    _plugin_files.clear()
    for (group, name), path in files.items():
        if name in find_files(group):
            raise ValueError(f"{path}: {group}={name} is one of cnnbench's own: choose another name")
    _plugin_files.update(files)


def get_plugin_files() -> Mapping[tuple[str, str], Path]:
    """What `set_plugin_files` was given."""
    return _plugin_files


def find_files(group: str) -> dict[str, Path]:
    """The YAML file of each choice of a group, in the order of their names."""
    files = {path.stem: path for path in (find_config_dir() / group).glob("*.yaml")}
    files |= {name: path for (other, name), path in _plugin_files.items() if other == group}
    return dict(sorted(files.items()))


def list_spaces() -> dict[str, Path]:
    """The search spaces of `cnnbench tune`, by name."""
    return find_files("tune")


def list_groups() -> dict[str, list[str]]:
    """The names in each config group of a run."""
    return {
        folder.name: [*find_files(folder.name)]
        for folder in sorted(find_config_dir().iterdir())
        if folder.is_dir() and folder.name not in ("hydra", "tune", "claim")
    }


@renew_with_parts
@functools.cache
def read_declarations() -> dict[str, list["FieldInfo"]]:
    """The declarations of each key, including those of a search. Several parts may declare an option of one name."""
    # Not at the top: help needs no pydantic, whose import takes longer than the help itself.
    from cnnbench.config.declared import iterate_keys, list_all_keys
    from cnnbench.tuning.settings import TuneSettings

    found: dict[str, list[FieldInfo]] = {}
    for key in [*list_all_keys(), *iterate_keys(TuneSettings, "tune")]:
        found.setdefault(key.name, []).append(key.field)
    return found


def list_keys() -> list[str]:
    """Every key of a run's config that is not the name of a part."""
    return [key for key in read_declarations() if not key.startswith("tune.") and not key.endswith(".name")]


def list_choices(what: str) -> list[tuple[str, str]]:
    """Name and one-line description of each choice: the first comment of its YAML file.

    Raises:
        ValueError: the kind is unknown.
    """
    if what not in LISTED:
        raise ValueError(describe_unknown("list", what, LISTED))
    found = []
    for name, path in find_files(LISTED[what]).items():
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        found.append((name, next((comment for comment in comments if not comment.startswith("@package")), "")))
    return found
