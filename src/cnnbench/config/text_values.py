"""Read the value of a key from text: literally if the key is text, otherwise as YAML. Refuse interpolations."""

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from cnnbench.config.keys import is_list, is_text_key, may_be_null

# Quoted text, in which a backslash escapes a quote.
_QUOTED = re.compile(r"""(['"])((?:(?!\1)[^\\]|\\.)*)\1""", re.DOTALL)
# A value up to the next comma outside quotes.
_PARTED = re.compile(r"""((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,])*),?""", re.DOTALL)


def read_value(field: FieldInfo, value: str) -> Any:
    """The value that a user means by some text.

    Raises:
        ValueError: it is neither text nor YAML.
    """
    if not is_text_key(field):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError("the value cannot be read") from None
    if is_list(field):
        return split_list(value)
    return None if value == "null" and may_be_null(field) else unquote(value)


def unquote(value: str) -> str:
    """The text that a user means: without quotes and with `~` expanded."""
    if os.path.lexists(value):  # a file may have quotes or a tilde in its name
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return os.path.expanduser(value)
    # As in Hydra: a backslash is kept, unless a quote follows.
    return re.sub(rf"(\\+)({quoted[1]}|\Z)", lambda found: "\\" * (len(found[1]) // 2) + found[2], quoted[2])


def split_values(value: str) -> list[str]:
    """The values between commas, without surrounding spaces."""
    return [part.strip() for part in _PARTED.findall(f"{value},")[:-1]]


def split_list(value: str) -> list[str]:
    """A list of text such as `[a, b]`, with or without the brackets."""
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return [unquote(part) for part in split_values(inner)] if inner.strip() else []


def refuse_interpolation(value: object, where: str) -> None:
    """Check that there is no `${…}` anywhere in plain data.

    Raises:
        ValueError: there is; the message names the key.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            refuse_interpolation(inner, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_interpolation(inner, where)
    elif isinstance(value, str) and "${" in value:
        raise ValueError(f"{where}={value!r}: interpolations are not accepted here")
