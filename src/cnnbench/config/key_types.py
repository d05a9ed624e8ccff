"""What a key was declared as, and how the value of a key of text is read: as its user wrote it.

The sections' own keys are declared in the dataclasses of `config.py`. A part's keys are the parameters of what it
registers; they are read from its source, for importing it may import torch.
"""

import ast
import dataclasses
import functools
import os
import re
from pathlib import Path
from typing import Any

from cnnbench.config.schema import Config

TEXT, OPTIONAL_TEXT, TEXTS = str, str | None, list[str]
# Text in quotes of one kind, which a backslash takes their meaning.
_QUOTED = re.compile(r"""(['"])((?:(?!\1)[^\\]|\\.)*)\1""", re.DOTALL)
# Commas that part values: not those inside quotes.
_PARTED = re.compile(r"""((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,])*),?""", re.DOTALL)


def kind_of(key: str, schema: type = Config) -> Any:
    """The type that a key such as `data.root` was declared with; None for what is no key, or a part's of any type."""
    name, _, rest = key.partition(".")
    kind = {field.name: field.type for field in dataclasses.fields(schema)}.get(name)
    if not rest or not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return None if rest else kind
    own = kind_of(rest, kind)
    if own is None and schema is Config:
        annotations = _options(name).get(rest, set())
        own = TEXT if annotations == {"str"} else OPTIONAL_TEXT if annotations == {"str | None"} else None
    return own


def text_of(value: str) -> str:
    """The text that a user means: what exists under that name as it stands, else without quotes, `~` expanded."""
    if os.path.lexists(value):
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return os.path.expanduser(value)
    # As Hydra has it: a backslash is one, unless a quote follows.
    return re.sub(rf"(\\+)({quoted[1]}|\Z)", lambda found: "\\" * (len(found[1]) // 2) + found[2], quoted[2])


def parted(value: str) -> list[str]:
    """The values between commas, without the blanks around them."""
    return [part.strip() for part in _PARTED.findall(f"{value},")[:-1]]


def texts_of(value: str) -> list[str]:
    """A list of text, such as `[a, b]`; its brackets may be left out."""
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return [text_of(part) for part in parted(inner)] if inner.strip() else []


@functools.cache
def _options(section: str) -> dict[str, set[str]]:
    """The annotations of each option that the parts of a section take; a tracker's are called NAME.OPTION."""
    found: dict[str, set[str]] = {}
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if f'@register("{section}", ' in source:
            for node in ast.parse(source).body:
                for name in _registered(node, section):
                    for key, annotation in _parameters(node):
                        found.setdefault(f"{name}.{key}" if section == "logger" else key, set()).add(annotation)
    return found


def _registered(node: ast.AST, section: str) -> list[str]:
    """The names under which a function or class is registered as a part of the section."""
    calls = [call.args for call in getattr(node, "decorator_list", []) if isinstance(call, ast.Call)]
    named = [[ast.literal_eval(argument) for argument in arguments] for arguments in calls if len(arguments) == 2]
    return [name for kind, name in named if kind == section]


def _parameters(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.ClassDef):
        made = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        return _parameters(made[0]) if made else []
    assert isinstance(node, ast.FunctionDef)
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [(a.arg, ast.unparse(a.annotation)) for a in arguments if a.annotation is not None]
