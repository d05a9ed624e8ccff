"""Overrides for Hydra's grammar: the value of a text key is quoted, so that it arrives as its user wrote it."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from cnnbench.cli.choices import read_declarations
from cnnbench.config.keys import is_list, is_text_key, may_be_null
from cnnbench.config.text_values import split_list, split_values, unquote

Kind = Literal["text", "text or null", "list of text", "other"]
TEXT_OF_COMMANDS = ("tune", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # text, yet no keys of a config
_OVERRIDE = re.compile(r"(\+{0,2}([\w./@-]+))=(.*)", re.DOTALL | re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+,\d+")
# Hydra's own ways to name several values.
_SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
_OF_LISTS = re.compile(r"\[.*\]\s*,\s*\[.*\]", re.DOTALL)


def quote_text(overrides: Sequence[str], *, sweeping: bool = False) -> list[str]:
    """Rewrite overrides for Hydra: text that it would misread in quotes, several loggers as a list.

    `key={…}` becomes `++key={…}`, for without `++` Hydra adds no keys. `logger=a,b` would be a sweep, and nobody sweeps
    loggers.

    Args:
        sweeping: a comma separates the values of a sweep, unless a file of the whole name exists.
    """
    read = [_quote_override(text, sweeping) for text in overrides]
    listed = [f"logger=[{text[7:]}]" if re.match(r"logger=[\w]+(,[\w]+)+$", text) else text for text in read]
    return [f"++{text}" if re.match(r"[\w.]+=\s*\{", text) else text for text in listed]


def is_text(key: str) -> bool:
    """Whether a key was declared as text."""
    return find_kind(key).startswith("text")


@contextmanager
def hint_at_several_runs(overrides: Sequence[str]) -> Iterator[None]:
    """Within it, an error also suggests -m where a comma in a text key may separate several values."""
    try:
        yield
    except ValueError as error:
        several = [text for text in overrides if (found := _OVERRIDE.fullmatch(text)) and "," in found[3]]
        several = [text for text in several if is_text(text.partition("=")[0].lstrip("+"))]
        if not several:
            raise
        raise ValueError(f"{error}. If {several[0]} stands for several values, add -m to run each of them") from error


def describe_values(override: Override) -> str:
    """The start of a message about several values of a key, with the number that a decimal comma may mean."""
    text, _, value = str(override.input_line).partition("=")
    decimal = f" (or, as one number: {text}={value.replace(',', '.')})" if _DECIMAL.fullmatch(value) else ""
    return f"{override.input_line} names several values{decimal}"


def explain_syntax(text: str, error: str) -> str:
    """The message for an override that Hydra cannot parse, with the quoted form that it can."""
    key, _, value = text.partition("=")
    if value.startswith(("[", "{")):
        quotes = f"'{key}=" + ("""["café", "a (1)"]'""" if value[0] == "[" else """{key: "a (1)"}'""")
        return f"{text!r} cannot be read as KEY=VALUE: {error}. Put text inside brackets in quotes: {quotes}"
    quotes = shlex.quote(f"{key}={_quote(value)}")
    return f"{text!r} cannot be read as KEY=VALUE: {error}. As text, in quotes: {quotes}"


def _quote_override(text: str, sweeping: bool) -> str:
    found = _OVERRIDE.fullmatch(text)
    if found is None:
        return text
    start, key, value = found.groups()
    kind = find_kind(key)
    sweeping = sweeping and not key.startswith(("hydra.", "tune", "sweep."))
    if kind == "list of text":
        if value in ("", "null") or (sweeping and _OF_LISTS.fullmatch(value)):
            return text
        return _read_back(text, split_list(value)) or f"{start}=[{','.join(map(_quote, split_list(value)))}]"
    if kind == "other":
        # What Hydra cannot read stays text: the key's own check then explains which values are valid.
        plain = _read(text) is None and value[:1] not in ("[", "{", "(", "'", '"')
        return f"{start}={_quote(value)}" if plain else text
    if sweeping and "," in value and not os.path.lexists(value):
        if _SWEEPS.fullmatch(value):
            return text
        return f"{start}={','.join(_quote_value(start, part, kind) for part in split_values(value))}"
    return f"{start}={_quote_value(start, value, kind)}"


def find_kind(key: str) -> Kind:
    """Whether a key was declared as text, so that its value is taken as it is written."""
    if key in TEXT_OF_COMMANDS:
        return "text"
    fields = read_declarations().get(key, [])
    if not fields or not all(map(is_text_key, fields)):
        return "other"
    if is_list(fields[0]):
        return "list of text"
    return "text or null" if any(map(may_be_null, fields)) else "text"


def _quote_value(start: str, value: str, kind: Kind) -> str:
    """One value of a key of text, in Hydra's words."""
    if (kind == "text or null" and value == "null") or not value:
        return value
    text = unquote(value)
    return text if _read_back(f"{start}={text}", text) else _quote(text)


def _read_back(override: str, value: object) -> str | None:
    """The override, if Hydra reads this very value from it."""
    read = _read(override)
    return override if read and not read.is_sweep_override() and read.value() == value else None


def _read(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def _quote(text: str) -> str:
    return QuotedString(text, Quote.double if "'" in text else Quote.single).with_quotes()
