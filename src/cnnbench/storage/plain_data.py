"""JSON and YAML as plain data: mappings, lists, text, numbers, true, false and null, and nothing else.

The readers take files from strangers, and refuse them with a `ValueError` that names the file. A sealed YAML file ends
with a comment that holds the SHA-256 of the lines above; a sealed JSON file has it as its last key.
"""

# Why seals: one flipped bit may turn a config into another valid config.

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnnbench.storage.atomic import write_bytes, write_text
from cnnbench.storage.regular import read_bytes, refuse_damaged

LARGEST_JSON = 64 * 2**20
LARGEST_YAML = 2 * 2**20  # a sweep of ten thousand jobs
DEEPEST = 100  # levels of YAML; a config has three
SEAL = "# sha256: "


def read_json(path: Path, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: not valid JSON, or more than `largest` bytes.
    """
    content = read_bytes(path, largest)
    try:
        return json.loads(content.decode())
    except RecursionError:
        refuse_damaged(path, "it is nested too deeply")
    except ValueError as error:
        refuse_damaged(path, error)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; a number that is not finite becomes null."""
    write_text(path, json.dumps(_replace_nonfinite(value), indent=2, ensure_ascii=False) + "\n")


def write_sealed_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the SHA-256 of its values as one more key, `sha256`."""
    write_json(path, {**values, "sha256": _hash_values(values)})


def read_sealed_json(path: Path, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Read an object that `write_sealed_json` wrote, without its hash.

    Args:
        kinds: as for `check_kinds`; all of these keys are required.

    Raises:
        ValueError: it has changed since, is not valid JSON, lacks a key, or has a value of another type.
    """
    values = check_kinds(path, read_json(path), kinds)
    if values.pop("sha256", None) != _hash_values(values):
        refuse_damaged(path, "its sha256 is not that of its other values, so the file has changed since it was written")
    for key in kinds.keys() - values.keys():
        refuse_damaged(path, f"it lacks {key}")
    return values


def _hash_values(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _replace_nonfinite(value: Any) -> Any:
    # JSON has neither NaN nor infinity; Python would write them all the same, and other readers fail.
    if isinstance(value, Mapping):
        return {key: _replace_nonfinite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def check_kinds(path: Path, values: Any, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Check that a file holds a mapping, in which the values of known keys have the expected types; returns it.

    Args:
        kinds: the accepted type or types of each known key; absent and unknown keys are not checked.

    Raises:
        ValueError: not a mapping, or a value of another type; the message names file, key and value.
    """
    if not isinstance(values, dict):
        refuse_damaged(path, "it holds no keys")
    for key in kinds.keys() & values.keys():
        value, kind = values[key], kinds[key]
        accepted = kind if isinstance(kind, tuple) else (kind,)
        # In Python, a bool is also an int.
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            names = " or ".join("null" if one is type(None) else one.__name__ for one in accepted)
            refuse_damaged(path, f"{key}={str(value)[:60]!r}, expected {names}")
    return values


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False


class _PlainLoader(yaml.SafeLoader):
    """YAML without tags, aliases and deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):  # a few lines of these can expand to gigabytes
            raise yaml.YAMLError(f"aliases are not accepted: *{str(event.anchor)[:60]}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not accepted: {event.tag[:60]}")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


# A date stays text: the dumper quotes text that looks like one.
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_int(loader: _PlainLoader, node: Any) -> int:
    value = loader.construct_yaml_int(node)
    str(value)  # a hexadecimal number may have more digits than Python prints: fail here, not later
    return value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that occurs twice twice: the loader accepts no aliases."""
        return True


def _represent_text(dumper: _PlainDumper, value: str) -> yaml.ScalarNode:
    # YAML folds line ends other than \n into a blank unless they are escaped.
    style = '"' if any(end in value for end in "\r\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_PlainDumper.add_representer(str, _represent_text)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML text.

    Raises:
        ValueError: not valid YAML, or it has tags or aliases.
    """
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file, sealed or not; raises as `parse_yaml`."""
    return _parse(path, read_bytes(path, LARGEST_YAML))


def _parse(path: Path, content: bytes) -> Any:
    try:
        return parse_yaml(content.decode())
    except ValueError as error:
        refuse_damaged(path, error)


def format_sealed_yaml(value: Any) -> bytes:
    """YAML in the order given, and its seal."""
    text = yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True).encode()
    return text + _compute_seal(text)


def write_yaml(path: Path, value: Any) -> None:
    """Write sealed YAML atomically."""
    write_bytes(path, format_sealed_yaml(value))


def read_sealed_yaml(path: Path) -> Any:
    """Read a YAML file that `write_yaml` wrote.

    Raises:
        ValueError: it has changed since, is not valid YAML, or has tags or aliases.
    """
    content = read_bytes(path, LARGEST_YAML)
    start = content.rfind(SEAL.encode())
    text = content if start < 0 else content[:start]
    seal = _compute_seal(text)
    if content[len(text) :] != seal:
        refuse_damaged(
            path,
            "its last line is not the SHA-256 of the lines above, so the file has changed since it was written. "
            f"If you changed it on purpose, make the last line {seal.decode().strip()!r}",
        )
    return _parse(path, text)


def _compute_seal(text: bytes) -> bytes:
    return f"{SEAL}{hashlib.sha256(text).hexdigest()}\n".encode()
