"""All keys: those of the schema, and the options that parts declare.

The `Options` class of a part is read from the syntax of its file: a declaration consists of names, constants, lists,
unions and calls. A plug-in has been imported, so its parts are in the registry.
"""

# Importing a part's file would import torch, and completion, `list keys`, a sweep and a report must do without.

import ast
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model
from pydantic.fields import FieldInfo

from cnnbench import registry
from cnnbench.config.keys import Options, PartSection, Role, Section, find_role
from cnnbench.config.schema import Config
from cnnbench.registry import renew_with_parts

PACKAGE = Path(__file__).parents[1]
BUILTINS = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}


class Key(NamedTuple):
    """A key of a config, such as `model.stages`.

    Attributes:
        role: the section's role, unless that is `result`; then the key has its own.
        parts: the parts that have it as an option; empty for a key of the section itself.
    """

    name: str
    field: FieldInfo
    role: Role
    parts: tuple[str, ...] = ()


@renew_with_parts
@functools.cache
def list_all_keys() -> tuple[Key, ...]:
    """Every key, in the order of the schema. An option that parts declare differently appears once per declaration."""
    return tuple(iterate_keys(Config, ""))


def iterate_keys(section: type[Section], place: str, role: Role = "result") -> Iterator[Key]:
    """The keys of a section and, if it chooses a part, the options of all its parts.

    Args:
        place: the section's name, such as `trainer`; empty at the top level.
        role: the role of the section.
    """
    prefix = f"{place}." if place else ""
    for name, field in section.model_fields.items():
        own = find_role(field) if role == "result" else role
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from iterate_keys(field.annotation, f"{prefix}{name}", own)
        else:
            yield Key(f"{prefix}{name}", field, own)
    if not issubclass(section, PartSection):
        return
    options: dict[tuple[str, str], Key] = {}
    for part, declared in read_options(place).items():
        for key in iterate_keys(declared, f"{place}.{part}" if place == "logger" else place, role):
            # Parts that declare an option in the same way share one entry. FieldInfo has no equality to rely on.
            same = options.get((key.name, repr(key.field)))
            options[key.name, repr(key.field)] = key._replace(parts=(*same.parts, part) if same else (part,))
    names = list(dict.fromkeys(key.name for key in options.values()))
    yield from sorted(options.values(), key=lambda key: names.index(key.name))


def find_keys(plain: Mapping[str, Any]) -> dict[str, Key]:
    """The declarations of the keys in a checked config, which is given as plain data."""
    found = {}
    for key in list_all_keys():
        section = key.name.partition(".")[0]
        if section not in plain:
            continue
        chosen = plain[section] if section == "logger" else [plain[section]["name"]] if key.parts else []
        if not key.parts or not {*key.parts}.isdisjoint(chosen):
            found[key.name] = key
    return found


def select(plain: Mapping[str, Any], wanted: Callable[[Role, FieldInfo], bool]) -> dict[str, Any]:
    """Select keys of a config, given as plain data, by their declarations. Undeclared keys are kept."""
    # The config may come from a stranger: any value may have any type.
    chosen: dict[str, Any] = {}
    for name, value in plain.items():
        field = Config.model_fields.get(name)
        if field is None:
            chosen[name] = value
        elif isinstance(value, Mapping) and find_role(field) == "result":
            fields = _read_fields(name, str(value.get("name")))
            chosen[name] = {
                k: v for k, v in value.items() if k not in fields or wanted(find_role(fields[k]), fields[k])
            }
        elif wanted(find_role(field), field):
            chosen[name] = value
    return chosen


def check_part_options(config: Config) -> None:
    """Check the options of the chosen parts early, by the same declarations as when the parts are built.

    Raises:
        ValueError: an option that the part does not have, lacks, or does not accept.
    """
    for section in Config.model_fields:
        chosen = getattr(config, section)
        if isinstance(chosen, PartSection):
            is_logger = section == "logger"
            parts = chosen.options if is_logger else {dict(chosen)["name"]: chosen.options}
            for part, options in parts.items():
                declared = read_part_options(section, part)  # None for an unknown part, which the build refuses
                if declared and isinstance(options, Mapping):
                    declared.from_plain(options, f"{section}.{part}" if is_logger else section)


@renew_with_parts
@functools.cache
def _read_fields(section: str, part: str) -> dict[str, FieldInfo]:
    kind = Config.model_fields[section].annotation
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return {}
    options = (read_part_options(section, part) or Options) if issubclass(kind, PartSection) else Options
    return {**options.model_fields, **kind.model_fields}


@renew_with_parts
@functools.cache
def read_options(section: str) -> dict[Any, type[Options]]:
    """The options that each part of a section declares, by the part's name; empty for a part without options."""
    found = {name: _read_options_class(node, path) for name, node, path in _iterate_parts(section)}
    owned = [name for name in registry.list_names(section) if registry.is_owned(section, name)]
    found |= {name: registry.find_options_class(section, name) or Options for name in owned}
    return dict(sorted(found.items()))


def list_own_names(kind: str) -> list[str]:
    """The names of our own parts of a kind, such as metrics, that are registered by a decorator."""
    return [name for name, _, _ in _iterate_parts(kind)]


@renew_with_parts
@functools.cache
def read_part_options(section: str, part: str) -> type[Options] | None:
    """The options that one part declares; None for an unknown part."""
    if registry.is_owned(section, part):
        return registry.find_options_class(section, part) or Options
    found = (_read_options_class(node, path) for name, node, path in _iterate_parts(section, part) if name == part)
    return next(found, None)


def _iterate_parts(kind: str, part: str = "") -> Iterator[tuple[str, ast.stmt, Path]]:
    """The name, the definition and the file of each part of ours that a decorator registers.

    Args:
        part: look only into files that mention this name.
    """
    for path, text in _read_part_files().items():
        if f'"{part or kind}"' not in text:  # parsing all files takes 0.1 s
            continue
        for node in _find_bindings(path).values():
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and len(decorator.args) == 2:
                    of_kind, name = map(ast.literal_eval, decorator.args)
                    if of_kind == kind:
                        yield name, node, path


@functools.cache
def _read_part_files() -> dict[Path, str]:
    """The text of each file that registers parts."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    # A part that is registered by a call, such as the table in `data/sets/torchvision_sets.py`, has no options.
    return {path: text for path, text in files.items() if "\n@register(" in text}


@functools.cache
def _find_bindings(path: Path) -> dict[str, ast.stmt]:
    """The statements that bind the names at the top level of a file, by name."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
    return found


def _read_options_class(part: ast.stmt, path: Path) -> Any:
    """The class of a part's parameter `options`, or the class without options."""
    functions = part.body if isinstance(part, ast.ClassDef) else [part]
    for function in functions:
        if isinstance(function, ast.FunctionDef):
            for argument in (*function.args.args, *function.args.kwonlyargs):
                if argument.arg == "options":
                    return _evaluate(argument.annotation, path)
    return Options


@functools.cache
def _evaluate_name(name: str, path: Path) -> Any:
    """The value of a name at the top level of a file."""
    node = _find_bindings(path).get(name)
    if isinstance(node, ast.ImportFrom):
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        theirs = PACKAGE.parent / str(node.module).replace(".", "/")
        # Other packages, such as pydantic, and the room of the keys are imported: they need no torch.
        if theirs.is_relative_to(PACKAGE) and not theirs.is_relative_to(PACKAGE / "config"):
            return _evaluate_name(original, theirs / "__init__.py" if theirs.is_dir() else theirs.with_suffix(".py"))
        return getattr(importlib.import_module(str(node.module)), original)
    if isinstance(node, ast.ClassDef):
        fields: dict[str, Any] = {}
        # Validators are left out: they run when the part is built.
        for inner in node.body:
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                fields[inner.target.id] = (_evaluate(inner.annotation, path), _evaluate(inner.value, path))
        return create_model(name, __base__=_evaluate(node.bases[0], path), **fields)
    return _evaluate(node.value, path) if isinstance(node, ast.Assign) else BUILTINS[name]


def _evaluate(node: ast.expr | None, path: Path) -> Any:
    """The value of an expression in a declaration."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return _evaluate_name(name, path)
        case ast.Tuple(items) | ast.List(items):
            values = [_evaluate(item, path) for item in items]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        case ast.Subscript(value, index):
            return _evaluate(value, path)[_evaluate(index, path)]
        case ast.BinOp(left, ast.BitOr(), right):
            return _evaluate(left, path) | _evaluate(right, path)
        case ast.Call(ast.Name(name), arguments, keywords):
            given = {str(word.arg): _evaluate(word.value, path) for word in keywords}
            return _evaluate_name(name, path)(*[_evaluate(argument, path) for argument in arguments], **given)
    raise AssertionError(
        f"{path}:{getattr(node, 'lineno', '?')}: a declaration of options must consist of names, constants, lists, "
        "unions and calls"
    )
