"""The names of parts and keys that a user can choose, found without importing any part (completion must be instant)."""

import functools
from collections.abc import Callable, Iterator, Mapping
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
    from cnnbench.config.declared import iterate_keys, list_all_keys
    from cnnbench.tuning.settings import TuneSettings

    found: dict[str, list[FieldInfo]] = {}
    for key in [*list_all_keys(), *iterate_keys(TuneSettings, "tune")]:
        found.setdefault(key.name, []).append(key.field)
    return found


def list_keys() -> list[str]:
    """Every key of a run's config that is not the name of a part."""
    return [key for key in read_declarations() if not key.startswith("tune.") and not key.endswith(".name")]


def describe_choices(kind: str | None) -> Iterator[str]:
    """The lines of `cnnbench list`: the choices of a kind with their descriptions, or the kinds with their choices."""
    if kind is None:
        for one in LISTED:
            yield f"cnnbench list {one:<12} {', '.join(name for name, _ in list_choices(one))}"
        return
    listed = list_choices(kind)
    width = max((len(name) for name, _ in listed), default=0)
    for name, description in listed:
        yield f"{name:<{width}}  {description}".rstrip()


def list_choices(what: str) -> list[tuple[str, str]]:
    """Name and one-line description of each choice: the first comment of its YAML file.

    Raises:
        ValueError: the kind is unknown.
    """
    if what not in LISTED:
        raise ValueError(describe_unknown("list", what, LISTED))
    return [(name, _read_description(path)) for name, path in find_files(LISTED[what]).items()]


def _read_description(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def complete_override(incomplete: str) -> list[str]:
    """Complete an override: groups and keys, and after `=` the names and words that they accept."""
    return _complete(incomplete, list_groups(), list_keys())


def complete_tuning(incomplete: str) -> list[str]:
    """Complete an override, or a key of a search."""
    search = [key for key in read_declarations() if key.startswith("tune.")]
    return _complete(incomplete, {"tune": [*list_spaces()]} | list_groups(), [*search, *list_keys()])


def _complete(incomplete: str, parts: dict[str, list[str]], known: list[str]) -> list[str]:
    key, equals, value = incomplete.partition("=")
    if equals:
        from cnnbench.config.keys import list_choices

        before = incomplete[: len(incomplete) - len(value.rpartition(",")[2])]  # a sweep's values so far
        words = parts.get(key) or dict.fromkeys(
            word for field in read_declarations().get(key, []) for word in list_choices(field)
        )
        found = [f"{before}{word}" for word in words]
    else:
        found = [f"{name}=" for name in [*parts, *known]]
    return [choice for choice in found if choice.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Complete the name of a dataset."""
    return [name for name in list_groups()["data"] if name.startswith(incomplete)]


def complete_claim(incomplete: str) -> list[str]:
    """Complete the id of a claim, or `all`."""
    ids = [path.stem.partition("_")[0] for path in sorted((find_config_dir() / "claim").glob("*.yaml"))]
    return [name for name in [*ids, "all"] if name.startswith(incomplete)]


def complete_one_of(*choices: str) -> Callable[[str], list[str]]:
    """Make a function that completes one of the choices."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]
