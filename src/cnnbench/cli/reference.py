"""`cnnbench list`: the names that can be chosen, and a reference of all keys, which the documentation shows too."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from cnnbench.cli.choices import LISTED, find_files, list_choices, list_groups
from cnnbench.cli.options import ListOptions, is_plugins
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


def list_names(options: ListOptions) -> None:
    """Print the kinds, the choices of a kind, or the keys as a table, as JSON or as a JSON Schema.

    Raises:
        ValueError: there is no such kind, prefix or section.
    """
    prefixes = [text for text in options.overrides or [] if not is_plugins(text)]
    if options.what == "keys" and len(prefixes) <= 1:
        _show_keys("".join(prefixes), options)
    elif prefixes or options.as_json or options.as_schema:
        raise ValueError("one PREFIX, --json and --schema are for `cnnbench list keys`")
    elif options.what is None:
        for kind in LISTED:
            print(f"cnnbench list {kind:<12} {', '.join(name for name, _ in list_choices(kind))}")
    else:
        listed = list_choices(options.what)
        width = max((len(name) for name, _ in listed), default=0)
        for name, description in listed:
            print(f"{name:<{width}}  {description}".rstrip())


def _show_keys(prefix: str, options: ListOptions) -> None:
    if options.as_schema:
        print(json.dumps(make_json_schema(prefix), indent=2))
        return
    rows = find_rows(prefix)
    if options.as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    is_search = all(row.key.startswith("tune.") for row in rows)
    commands = "cnnbench tune" if is_search else "cnnbench train, config or summary"
    show_table(make_console(), f"Keys: KEY=VALUE after {commands}", COLUMNS, [dataclasses.astuple(row) for row in rows])


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
                    if value not in known.get("anyOf", [value]):  # a key of the section itself has no anyOf
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
    meaning = key.field.description or ""
    if name == "name":  # chosen by the group: optimizer=sgd
        return Row(group, "part", key.field.default, ", ".join(list_groups()[group]), meaning, key.role)
    type_, accepted = name_type(key.field.annotation), describe_accepted(key.field)
    return Row(key.name, type_, _format_default(key), accepted, meaning, key.role, ", ".join(key.parts))


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
    return ", ".join(f"{value} ({', '.join(names)})" if names else value for value, names in parts.items())


@renew_with_parts
@functools.cache
def _read_yaml_files(group: str) -> dict[str, Any]:
    """The content of the YAML file of each part of a group."""
    return {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in find_files(group).items()}
