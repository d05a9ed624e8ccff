"""A reference of all keys: a table for the terminal and the documentation, a JSON Schema for editors."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from cnnbench.cli.choices import find_files, list_groups
from cnnbench.cli.tables import Column, make_console, show_table
from cnnbench.config.declared import Key, iterate_keys, list_all_keys, read_options
from cnnbench.config.keys import describe_accepted, format_value, name_type
from cnnbench.config.schema import Config
from cnnbench.registry import describe_unknown, renew_with_parts
from cnnbench.tuning.settings import TuneSettings

COLUMNS = [
    Column("key", 28),
    Column("type", 8, optional=2),
    Column("default", 8),
    Column("accepted", 14, optional=1),
    Column("meaning", 24),
    Column("role", 7, optional=3),
    Column("part", 12, optional=4),
]


@dataclasses.dataclass(frozen=True)
class Row:
    """A key's entry in the reference.

    Attributes:
        part: the parts that have it as an option; empty if every run has the key.
    """

    key: str
    type: str
    default: str
    accepted: str
    meaning: str
    role: str
    part: str = ""


def find_rows(prefix: str = "") -> list[Row]:
    """The keys that start with a prefix; those of a search (`tune.…`) come last.

    Raises:
        ValueError: no key starts with it; the message names the sections.
    """
    keys = [*list_all_keys(), *iterate_keys(TuneSettings, "tune", role="control")]
    found = [_make_row(key) for key in keys if key.name.startswith(prefix)]
    if not found:
        raise ValueError(describe_unknown("prefix", prefix, {key.name.partition(".")[0] for key in keys}))
    return found


def show_keys(prefix: str = "", *, as_json: bool = False, as_schema: bool = False) -> None:
    """Print the keys that start with a prefix as a table or as JSON, or print the JSON Schema of a section.

    Raises:
        ValueError: no key starts with it, or there is no such section.
    """
    if as_schema:
        print(json.dumps(make_json_schema(prefix), indent=2))
        return
    rows = find_rows(prefix)
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    show_table(
        make_console(),
        f"Keys: KEY=VALUE after {_format_commands(rows)}",
        COLUMNS,
        [dataclasses.astuple(row) for row in rows],
    )


def format_markdown_table(rows: Iterable[Row]) -> str:
    """Format keys as a Markdown table."""
    lines = ["| key | default | accepted | meaning | role |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        meaning = f"{row.meaning} ({row.part})" if row.part else row.meaning
        cells = (f"`{row.key}`", f"`{row.default}`" if row.default else "", row.accepted, meaning, row.role)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def make_json_schema(section: str = "") -> dict[str, Any]:
    """The JSON Schema of an experiment's YAML file, or of a file in `configs/SECTION/`.

    Raises:
        ValueError: there is no such section.
    """
    schema = Config.model_json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    sections = {name: value["$ref"].rpartition("/")[2] for name, value in properties.items() if "$ref" in value}
    for name, kind in sections.items():
        own = definitions[kind]
        options = {part: kind.model_json_schema() for part, kind in read_options(name).items()}
        if name == "logger":
            own["properties"] = options
        else:
            for described in options.values():
                for key, value in described.get("properties", {}).items():
                    known = own["properties"].setdefault(key, {"anyOf": []})
                    if value not in known.get("anyOf", [value]):
                        known["anyOf"].append(value)
        own["additionalProperties"] = False
    definitions["AugmentConfig"]["properties"]["exceptions"] = {"type": "array"}
    properties |= {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    if section:
        if section not in sections:
            raise ValueError(describe_unknown("section", section, sections))
        schema = definitions[sections[section]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _make_row(key: Key) -> Row:
    group, _, name = key.name.partition(".")
    if name == "name":  # chosen by the group: optimizer=sgd
        return Row(
            group, "part", key.field.default, ", ".join(list_groups()[group]), key.field.description or "", key.role
        )
    facts = (
        name_type(key.field.annotation),
        _format_default(key),
        describe_accepted(key.field),
        key.field.description or "",
        key.role,
    )
    return Row(key.name, *facts, ", ".join(key.parts))


def _format_default(key: Key) -> str:
    """The default as a user would type it. If parts have different defaults, each value is followed by its parts."""
    section, _, name = key.name.partition(".")
    parts: dict[str, list[str]] = {} if key.parts else {format_value(key.field.default): []}
    for part, value in _read_yaml_files(section).items():
        for word in name.split("."):
            value = value.get(word, ...) if isinstance(value, Mapping) else ...
        if value is not ... and (part in key.parts or not key.parts):
            parts.setdefault(format_value(value), []).append(part)
    if len(parts) == 1:
        return next(iter(parts))
    named = ([value, f" ({', '.join(names)})" if names else ""] for value, names in parts.items())
    return ", ".join(f"{value}{names}" for value, names in named)


@renew_with_parts
@functools.cache
def _read_yaml_files(group: str) -> dict[str, Any]:
    """The content of the YAML file of each part of a group."""
    return {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in find_files(group).items()}


def _format_commands(rows: list[Row]) -> str:
    return "cnnbench tune" if all(row.key.startswith("tune.") for row in rows) else "cnnbench train, config or summary"
