"""The YAML files of a plug-in: one beside it for each part, or a folder `configs/` like ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnbench import registry
from cnnbench.config.declared import list_own_names
from cnnbench.plugins.places import Place, PluginError
from cnnbench.registry import describe_unknown
from cnnbench.storage.plain_data import read_yaml
from cnnbench.storage.text import format_path

GROUPS = ("model", "data", "augment", "optimizer", "scheduler")  # whose YAML files name a part
FREE = ("experiment", "tune")  # whose YAML files name none
Files = dict[tuple[str, str], Path]


def find_files(place: Place, parts: Sequence[tuple[str, str]]) -> Files:
    """The YAML files of a plug-in, by group and name.

    Raises:
        PluginError: a part has no file, or a file names no part.
    """
    found = _find_in_configs(place, parts)
    for path in sorted({place.folder / f"{name}.yaml" for name in (place.name, *(name for _, name in parts))}):
        if path.is_file():
            name = _read_name(path)
            groups = [kind for kind, own in parts if own == name and kind in GROUPS]
            if not groups:
                names = [own for kind, own in parts if kind in GROUPS]
                raise PluginError(f"{format_path(path)}: {describe_unknown(f'part of {place.name}', name, names)}")
            if len(groups) > 1:
                folders = " and ".join(f"configs/{group}/{path.name}" for group in groups)
                raise PluginError(f"{format_path(path)}: {name!r} is {' and '.join(groups)}: write {folders} instead")
            found.setdefault((groups[0], path.stem), path)  # a file in `configs/` takes precedence
    for kind, name in parts:
        if kind in GROUPS and (kind, name) not in found:
            raise PluginError(_describe_missing(place, kind, name))
    return found


def _find_in_configs(place: Place, parts: Sequence[tuple[str, str]]) -> Files:
    found: Files = {}
    for group in (*GROUPS, *FREE):
        for path in sorted((place.folder / "configs" / group).glob("*.yaml")):
            # The folder of a single file may hold the YAML files of other plug-ins.
            is_own = place.is_package or (group, path.stem) in parts
            if group in FREE or (group == "augment" and is_own):
                found[group, path.stem] = path
                continue
            try:
                name = _read_name(path)
            except PluginError:
                if is_own:
                    raise
                continue
            if not is_own and (group, name) not in parts:
                continue
            # A file may vary one of our parts, some of which are known only once their rooms are imported.
            if (group, name) not in parts and group != "data" and name not in list_own_names(group):
                names = [own for kind, own in parts if kind == group]
                raise PluginError(f"{format_path(path)}: {describe_unknown(f'{group} of {place.name}', name, names)}")
            found[group, path.stem] = path
    return found


def _read_name(path: Path) -> str:
    try:
        plain = read_yaml(path)
    except (ValueError, OSError) as error:
        raise PluginError(str(error)) from None
    name = plain.get("name") if isinstance(plain, Mapping) else None
    if not isinstance(name, str):
        raise PluginError(f"{format_path(path)}: it must have the key name, with the name of a registered part")
    return name


def _describe_missing(place: Place, kind: str, name: str) -> str:
    declared = registry.find_options_class(kind, name)
    options = f" and a default for {', '.join(declared.model_fields)}" if declared else ""
    path = format_path(place.folder / f"{name}.yaml")
    return (
        f"plug-in {place.name}: the {kind} {name!r} needs {path}, or configs/{kind}/{name}.yaml beside it: write a "
        f"first line `# what {name} is`, then `name: {name}`{options}"
    )
