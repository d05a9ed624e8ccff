"""Quote overrides for Hydra's grammar, so that the value of a text key arrives as the user wrote it."""

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
TEXT_OF_COMMANDS = ("tune", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # text, but not config keys
_OVERRIDE = re.compile(r"(\+{0,2}([\w./@-]+))=(.*)", re.DOTALL | re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+,\d+")
# Hydra's functions that name several values.
_SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
_OF_LISTS = re.compile(r"\[.*\]\s*,\s*\[.*\]", re.DOTALL)


def quote_text(overrides: Sequence[str], *, sweeping: bool = False) -> list[str]:
    """Rewrite overrides for Hydra: quote text that it would misread, and turn several loggers into a list.

    `key={…}` becomes `++key={…}`, because Hydra adds keys only with `++`. `logger=a,b` means both loggers; Hydra would
    take it for a sweep.

    Args:
        sweeping: commas separate the values of a sweep, unless a file of the whole name exists.
    """
    read = [_quote_override(text, sweeping) for text in overrides]
    listed = [f"logger=[{text[7:]}]" if re.match(r"logger=[\w]+(,[\w]+)+$", text) else text for text in read]
    return [f"++{text}" if re.match(r"[\w.]+=\s*\{", text) else text for text in listed]


def is_text(key: str) -> bool:
    """Whether a key is declared as text."""
    return find_kind(key).startswith("text")


@contextmanager
def hint_at_several_runs(overrides: Sequence[str]) -> Iterator[None]:
    """A context in which an error also suggests -m, if a comma in a text key may have been meant as a separator."""
    try:
        yield
    except ValueError as error:
        several = [text for text in overrides if (found := _OVERRIDE.fullmatch(text)) and "," in found[3]]
        several = [text for text in several if is_text(text.partition("=")[0].lstrip("+"))]
        if not several:
            raise
        raise ValueError(f"{error}. If {several[0]} means several values, add -m to run each of them") from error


def describe_values(override: Override) -> str:
    """The start of a message about several values of a key. `0,5` may have been meant as 0.5, so suggest that too."""
    text, _, value = str(override.input_line).partition("=")
    decimal = f" (or, as one number: {text}={value.replace(',', '.')})" if _DECIMAL.fullmatch(value) else ""
    return f"{override.input_line} names several values{decimal}"


class SeveralValues(ValueError):
    """A command for one run names several values of a key.

    Attributes:
        said: what names them, and what else it may mean.
    """

    def __init__(self, override: Override) -> None:
        self.said = describe_values(override)
        super().__init__(f"{self.said}: add -m to run each of them")


def explain_syntax(text: str, error: str) -> str:
    """The message for an override that Hydra cannot parse, with a quoted form that it can."""
    key, _, value = text.partition("=")
    if value.startswith(("[", "{")):
        quotes = f"'{key}=" + ("""["café", "a (1)"]'""" if value[0] == "[" else """{key: "a (1)"}'""")
        return f"{text!r} cannot be read as KEY=VALUE: {error}. Put text inside brackets in quotes: {quotes}"
    quotes = shlex.quote(f"{key}={quote(value)}")
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


def _read(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def quote(text: str) -> str:
    """The text in quotes of Hydra's."""
    return QuotedString(text, Quote.double if "'" in text else Quote.single).with_quotes()
