"""Quote overrides for Hydra's grammar, so that the value of a text key arrives as the user wrote it."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from cnnbench.cli.choices import read_declarations
from cnnbench.config.keys import is_list, is_text_key, may_be_null, name_type
from cnnbench.config.text_values import split_list, split_values, unquote
from cnnbench.storage.text import get_first_line

Kind = Literal["text", "text or null", "list of text", "other"]
TEXT_OF_COMMANDS = ("tune", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # text, but not config keys
_OVERRIDE = re.compile(r"(\+{0,2}([\w./@-]+))=(.*)", re.DOTALL | re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+,\d+")
# Hydra's functions that name several values.
_SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
_OF_LISTS = re.compile(r"\[.*\]\s*,\s*\[.*\]", re.DOTALL)


def quote_text(overrides: Sequence[str], *, sweeping: bool = False) -> list[str]:
    """Rewrite overrides for Hydra: quote text that it would misread, and turn several loggers into a list.

    Args:
        sweeping: commas separate the values of a sweep, unless a file of the whole name exists.
    """
    quoted = []
    for text in overrides:
        text = _quote_override(text, sweeping)
        if re.match(r"logger=\w+(,\w+)+$", text):
            text = f"logger=[{text.removeprefix('logger=')}]"  # both loggers; Hydra would take it for a sweep
        elif re.match(r"[\w.]+=\s*\{", text):
            text = f"++{text}"  # otherwise Hydra adds no key to a mapping
        quoted.append(text)
    return quoted


@contextmanager
def hint_at_several_runs(overrides: Sequence[str]) -> Iterator[None]:
    """A context in which an error also suggests -m, if a comma in a text key may have been meant as a separator."""
    try:
        yield
    except ValueError as error:
        for text in overrides:
            found = _OVERRIDE.fullmatch(text)
            if found and "," in found[3] and find_kind(found[2]).startswith("text"):
                raise ValueError(f"{error}. If {text} means several values, add -m to run each of them") from error
        raise


class SeveralValues(ValueError):
    """A key has several values where one is accepted.

    Attributes:
        problem: the message without its remedy.
    """

    def __init__(self, override: Override, remedy: str) -> None:
        key, _, value = str(override.input_line).partition("=")
        self.problem = f"{override.input_line} names several values"
        kinds = [name_type(field.annotation) for field in read_declarations().get(key.lstrip("+"), [])]
        if _DECIMAL.fullmatch(value) and any("number" in kind for kind in kinds):  # 0,5 may be meant as 0.5
            self.problem += f" (or, as one number: {key}={value.replace(',', '.')})"
        super().__init__(f"{self.problem}: {remedy}")


def refuse_several_values(parsed: Iterable[Override], remedy: str) -> None:
    """Raise `SeveralValues`, with a remedy such as "give one", if an override names several values."""
    for o in parsed:
        if o.is_sweep_override():
            raise SeveralValues(o, remedy)


def parse_override(text: str, config_loader: ConfigLoader | None = None) -> Override:
    """Parse an override in Hydra's syntax.

    Args:
        config_loader: lists the names of groups, which `glob` needs.

    Raises:
        ValueError: it cannot be parsed; the message has a quoted form that can.
    """
    try:
        return OverridesParser.create(config_loader).parse_override(text)
    except HydraException as error:
        reason = get_first_line(error)
    key, _, value = text.partition("=")
    if value.startswith(("[", "{")):
        example = """["café", "a (1)"]""" if value[0] == "[" else """{key: "a (1)"}"""
        advice = f"Put text inside brackets in quotes: '{key}={example}'"
    else:
        advice = f"As text, in quotes: {shlex.quote(f'{key}={quote(value)}')}"
    raise ValueError(f"{text!r} cannot be read as KEY=VALUE: {reason}. {advice}")


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
        # As it is if Hydra reads the same list, so that the record has what the user typed.
        return _read_back(text, split_list(value)) or f"{start}=[{','.join(map(quote, split_list(value)))}]"
    if kind == "other":
        # Pass on as text what Hydra cannot parse: the check of the key then says which values are valid.
        plain = _read(text) is None and value[:1] not in ("[", "{", "(", "'", '"')
        return f"{start}={quote(value)}" if plain else text
    if sweeping and "," in value and not os.path.lexists(value):
        if _SWEEPS.fullmatch(value):
            return text
        return f"{start}={','.join(_quote_value(start, part, kind) for part in split_values(value))}"
    return f"{start}={_quote_value(start, value, kind)}"


def find_kind(key: str) -> Kind:
    """How a key is declared: the value of a text key is taken literally."""
    if key in TEXT_OF_COMMANDS:
        return "text"
    fields = read_declarations().get(key, [])
    if not fields or not all(map(is_text_key, fields)):
        return "other"
    if is_list(fields[0]):
        return "list of text"
    return "text or null" if any(map(may_be_null, fields)) else "text"


def _quote_value(start: str, value: str, kind: Kind) -> str:
    """One value of a text key, in Hydra's grammar."""
    if (kind == "text or null" and value == "null") or not value:
        return value
    text = unquote(value)
    return text if _read_back(f"{start}={text}", text) else quote(text)


def _read_back(override: str, value: object) -> str | None:
    """The override, if Hydra reads exactly this value from it."""
    read = _read(override)
    return override if read and not read.is_sweep_override() and read.value() == value else None


def _read(text: str) -> Override | None:
    try:
        return parse_override(text)
    except ValueError:
        return None


def quote(text: str) -> str:
    """The text in quotes of Hydra's."""
    return QuotedString(text, Quote.double if "'" in text else Quote.single).with_quotes()
