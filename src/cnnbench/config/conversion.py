"""Plain data into the fields of a dataclass, with their types; of what is not accepted, the name."""

import copy
import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.registry import unknown


def section(schema: type, name: str, values: Mapping[str, Any]) -> Any:
    """A dataclass made of a mapping; keys that are no field of it become its `options`, where it has them.

    Args:
        name: what the section is called in messages.

    Raises:
        ValueError: an unknown key, or a value of another type.
    """
    kinds = {f.name: f.type for f in dataclasses.fields(schema)}
    takes_options = kinds.pop("options", None) is not None
    extra = {key: value for key, value in values.items() if key not in kinds}
    if extra and not takes_options:
        raise ValueError(unknown(f"key in {name}", next(iter(extra)), kinds))
    made = schema(**typed(kinds, f"{name}.", {key: values[key] for key in kinds if key in values}))
    if extra:
        made.options = extra
    return made


def typed(kinds: Mapping[str, Any], prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values converted to their types; OmegaConf knows how (1 is a float, "yes" is no int).

    Args:
        kinds: the type of every key that is accepted.
        prefix: what stands before a key in messages.

    Raises:
        ValueError: an unknown key, or a value of another type.
    """
    converted: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            raise ValueError(unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in kinds]))
        node = copy.copy(_holder(key, kinds[key]))
        try:
            node[key] = value
        except OmegaConfBaseException:
            raise ValueError(f"{prefix}{key}={value}: accepted is {_type_name(kinds[key])}") from None
        converted[key] = OmegaConf.to_container(node)[key]  # type: ignore[call-overload,index]
    return converted


@functools.cache
def _holder(key: str, kind: Any) -> DictConfig:
    """A config of one key, to be copied: making one takes ten times as long."""
    return OmegaConf.structured(dataclasses.make_dataclass("One", [(key, kind)]))


def _type_name(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    kinds = " or ".join(names.get(kind, str(kind)) for kind in typing.get_args(annotation) or [annotation])
    return f"a list, each {kinds}" if typing.get_origin(annotation) is list else kinds


def refuse_interpolation(value: object, where: str) -> None:
    """Look for `${…}` anywhere in plain data.

    Raises:
        ValueError: naming the key it stands at.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_interpolation(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_interpolation(inner, where)
    elif isinstance(value, str) and "${" in value:
        raise ValueError(f"{where}={value!r}: interpolations are not accepted here")
