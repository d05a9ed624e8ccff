"""Write values of Python as overrides of a command."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnbench.cli.choices import read_declarations
from cnnbench.cli.compose.quoting import find_kind, quote
from cnnbench.cli.options import is_plugins
from cnnbench.cli.plugin_options import load_plugins
from cnnbench.config.keys import is_list
from cnnbench.config.schema import Config
from cnnbench.config.text_values import refuse_interpolation, unquote


def write_overrides(texts: Sequence[str], settings: Mapping[str, Any], *, sweeping: bool = False) -> list[str]:
    """The arguments of a call as overrides. The plug-ins that they name are loaded, because they declare keys.

    Args:
        texts: overrides, as in a command.
        settings: values by key.
        sweeping: a list names several values, unless the key holds a list; then a list of lists does.

    Raises:
        ValueError: a value that no override can express, or a plug-in that cannot be used.
    """
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise ValueError(f"override {wrong[0]!r}: must be text, KEY=VALUE")
    named = [text for text in texts if is_plugins(text)]
    if "plugins" in settings:
        named.append(f"plugins={_write('plugins', settings['plugins'], False)}")
    load_plugins([], named)
    return [*texts, *(f"{key}={_write(key, value, sweeping)}" for key, value in settings.items())]


def refuse_preview(configs: Iterable[Config]) -> None:
    """Raise a ValueError if a config only draws images: a call returns runs."""
    if any(config.preview for config in configs):
        raise ValueError("preview=true draws images and trains nothing: use the command cnnbench train")


def _write(key: str, value: Any, sweeping: bool) -> str:
    value = _simplify(key, value)
    refuse_interpolation(value, key)  # Hydra would put the value of another key in its place
    if not isinstance(value, list):
        return _write_value(key, value, sweeping)
    fields = read_declarations().get(key, [])  # several parts may declare an option of one name
    holds_list = bool(fields) and all(map(is_list, fields))
    is_swept = sweeping and (not holds_list or any(isinstance(one, list) for one in value))
    if not is_swept:
        return _write_inside(value)
    if not value:
        raise ValueError(f"{key}=[]: must name at least one value")
    return ",".join(_write_inside(one) if holds_list else _write_value(key, one, sweeping) for one in value)


def _simplify(key: str, value: Any) -> Any:
    """The value in types that overrides can express: None, truth values, numbers, text, lists and mappings."""
    value = getattr(value, "folder", value)  # a run or a sweep, as for `resume`
    if isinstance(value, Mapping):
        return {str(name): _simplify(key, inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):  # numbers and arrays of numpy and torch
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str | int | float | None):  # truth values too
        return value
    if isinstance(value, Iterable):
        return [_simplify(key, one) for one in value]
    raise ValueError(f"{key}={value!r}: must be None, a truth value, a number, text, or a list or mapping of these")


def _write_value(key: str, value: Any, sweeping: bool) -> str:
    if not isinstance(value, str):
        return _write_inside(value)
    # A command unquotes text, expands `~` and, with several values, splits at commas: quote what that would change.
    is_plain = unquote(value) in (value, os.path.expanduser(value)) and not (sweeping and "," in value)
    return quote(value) if find_kind(key).startswith("text") and not is_plain else value


def _write_inside(value: Any) -> str:
    """A value inside a list or mapping in Hydra's syntax, where text is quoted."""
    if isinstance(value, list):
        return f"[{','.join(map(_write_inside, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}: {_write_inside(inner)}' for name, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return quote(value) if isinstance(value, str) else repr(value)
