"""Explain a word, a group, a name or a key that does not exist, and suggest what the user may have meant."""

import importlib.util
import os
import re
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.cli.choices import list_groups
from cnnbench.cli.usage import find_meant
from cnnbench.config.declared import list_all_keys
from cnnbench.config.keys import describe_accepted, flatten, format_value
from cnnbench.config.schema import make_default_dict
from cnnbench.plugins.loading import format_option
from cnnbench.plugins.yaml_files import GROUPS
from cnnbench.registry import describe_unknown, find_nearest

# The choice of each group that switches it off; `~group` is what Hydra's users try.
NOTHING = {"augment": "none", "experiment": "null", "logger": "none", "scheduler": "constant"}


def explain_word(text: str) -> str:
    """The message for a word without `=` among overrides."""
    complaint = f"{text!r} is not an override: write KEY=VALUE"
    named = [f"{group}={name}" for group, names in list_groups().items() for name in names if name == text.lower()]
    if named:
        return f"{complaint}, such as {named[0]}"
    if (Path(text) / "status.json").is_file():
        return f"{complaint}, such as resume={text}"
    if os.path.exists(text):
        return f"{complaint}, such as data=image_folder data.path={text}"
    if text == "=":
        return f"{complaint}, without spaces around ="
    if meant := find_meant(text):
        return f"{complaint}, such as {meant}=…"
    group_of = {name: group for group, names in list_groups().items() for name in names}
    nearest = find_nearest(text, group_of) or "mlp"
    return f"{complaint}, such as {group_of[nearest]}={nearest}"


def check_signs(parsed: Sequence[Override]) -> None:
    """Refuse `~` and `+` in front of a key where they do not apply.

    Raises:
        ValueError: the message has an override that works.
    """
    choices, defaults = list_groups(), make_default_dict()
    default_values = flatten(defaults)
    for o in parsed:
        key, text = o.key_or_group, str(o.input_line)
        if o.is_delete() and key in choices:
            raise ValueError(f"{text}: a part cannot be removed: use {key}={NOTHING.get(key, 'NAME')}")
        if o.is_delete() and key.partition(".")[0] in defaults:
            known = key in default_values
            value = f"{format_value(default_values[key])}, its default" if known else "VALUE"
            raise ValueError(f"{text}: a key cannot be removed: use {key}={value}")
        if key in choices and (o.is_add() or o.is_force_add()):
            raise ValueError(f"{text}: choose a part without +: {text.lstrip('+')}")


def explain_failure(hydra: Hydra, parsed: Sequence[Override]) -> str | None:
    """Explain the first override that names a group, a choice or a key that does not exist."""
    choices = list_groups()
    valid = []
    for o in parsed:
        key = o.key_or_group
        if o.is_hydra_override() or o.is_delete() or key not in choices:
            continue
        wanted = _read_names(o)
        own = ConfigStore.instance().repo.get(key, {})  # experiments in the user's own files are registered here
        for name in wanted:
            if name not in choices[key] and name != "None" and f"{name}.yaml" not in own:
                return f"{describe_unknown(key, name, choices[key])}{_suggest_other_place(key, name)}"
        valid.append(f"{key}={wanted[0] if wanted and wanted[0] != 'None' else 'null'}")
    try:
        composed = hydra.compose_config("config", valid, RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException):
        return None
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    # The names of sections count too: `accumulate` turns a.b.c into a, a.b and a.b.c.
    paths = [accumulate(name.split("."), "{}.{}".format) for name in flatten({str(k): v for k, v in plain.items()})]
    keys = list(dict.fromkeys(chain.from_iterable(paths)))
    for o in parsed:
        key = o.key_or_group
        if o.is_add() and key in keys:
            return f"{o.input_line}: the key already exists: leave out the +"
        if not o.is_hydra_override() and not o.is_add() and key not in choices and key not in keys:
            return _suggest_key(key, keys, list(choices))
        if not o.is_delete() and isinstance(o.value(), list) and OmegaConf.is_dict(OmegaConf.select(composed, key)):
            return _explain_list(o)
    return None


def _explain_list(o: Override) -> str:
    """Explain a list in the place of a mapping, such as `optimizer.rates=[features]`."""
    key, pairs = o.key_or_group, []
    value = o.value()
    assert isinstance(value, list)
    for one in value:
        items = [f"{name}: {format_value(own)}" for name, own in one.items()] if isinstance(one, dict) else [str(one)]
        pairs += [item if ":" in item else f"{item}: VALUE" for item in items]
    accepted = [describe_accepted(one.field) for one in list_all_keys() if one.name == key]
    hint = f". Did you mean {key}={{{', '.join(pairs)}}}?" if pairs else ""
    return f"{o.input_line}: must be {(*accepted, 'a group of keys')[0]}{hint}"


def _suggest_other_place(group: str, name: str) -> str:
    """Where a name that the group does not have may be found; empty where nothing is known."""
    if group == "experiment":
        return ", or the path of a .yaml file"
    if group == "model" and (theirs := _find_torchvision_name(name)):
        return f"; torchvision has it: model=torchvision model.arch={theirs}"
    # A plug-in is only loaded if the command names it, which is easy to forget where it lies in the current folder.
    if group in GROUPS and name.isidentifier() and Path(f"{name}.py").is_file():
        return f"; if it is in {name}.py, add {format_option(f'{name}.py')}"
    return ""


def _find_torchvision_name(name: str) -> str | None:
    """The name of a classifier in torchvision, if there is one. Read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("torchvision")
    places = package.submodule_search_locations if package else None
    wanted = name.lower().replace("-", "_")
    for path in Path(places[0]).glob("models/*.py") if places else ():
        if re.search(rf"^@register_model\(.*\n(?:@.*\n)*def {re.escape(wanted)}\(", path.read_text("utf-8"), re.M):
            return wanted
    return None


def _read_names(o: Override) -> list[str]:
    """The names in an override of a group: a single one, the values of a sweep, or the items of a list."""
    if o.is_sweep_override():
        return [str(value) for value in o.sweep_string_iterator()]
    value = o.value()
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _suggest_key(key: str, keys: list[str], group_names: list[str]) -> str:
    """Suggest a key of the same section, else one with the same last part, else any similar one."""
    section, dot, leaf = key.partition(".")
    if dot and section == "tune":
        return f"{key} is a key of searches: cnnbench tune {key}=… takes it"
    if dot and section in group_names:
        inside = [k.partition(".")[2] for k in keys if k.startswith(f"{section}.")]
        theirs = [part for declared in list_all_keys() if declared.name == key for part in declared.parts]
        hint = f". It is a key of {' and '.join(f'{section}={name}' for name in theirs[:3])}" if theirs else ""
        return f"{describe_unknown(f'key in {section}', leaf, inside)}{hint}"
    same_leaf = next((k for k in keys if "." in k and k.rpartition(".")[2] == key), None)
    if meant := same_leaf or (find_nearest(key, keys) if dot else find_meant(key)):
        return f"unknown key {key!r}. Did you mean {meant!r}?"
    return describe_unknown("key", key, {*group_names, *(k for k in keys if "." not in k)})
