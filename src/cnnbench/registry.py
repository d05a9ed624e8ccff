"""The registry of parts: their names in a config, and the code that each name builds.

A part registers itself where it is defined:

    @register("model", "mlp")
    class MLP(nn.Module): ...

and is found because `discover` imports every module of its package. Adding a part therefore edits no list. The parts
that are registered inside `own_parts` belong to a plug-in.
"""

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

Builder = TypeVar("Builder", bound=Callable[..., Any])
Word = TypeVar("Word", bound=str)


@dataclass
class _Part:
    """A registered class or function, what it was registered with, and its plug-in if it is not ours."""

    builder: Callable[..., Any]
    facts: dict[str, Any]
    owner: str | None


_parts: dict[tuple[str, str], _Part] = {}  # by kind and name
_owner: str | None = None  # the plug-in that is being imported
_caches: list[Callable[[], None]] = []


class NameTaken(ValueError):
    """Two parts of one kind have the same name.

    Attributes:
        first, second: the plug-ins that registered them; None for cnnbench itself.
    """

    def __init__(self, kind: str, name: str, first: str | None, second: str | None) -> None:
        if first == second:
            super().__init__(f"{kind} {name!r} is registered twice")
        else:
            plugin, taken_by = (second, f"plug-in {first}") if first and second else (first or second, "cnnbench")
            super().__init__(
                f"plug-in {plugin}: the {kind} {name!r} has the name of one of {taken_by}: choose another name"
            )
        self.first, self.second = first, second


def register(kind: str, name: str, **facts: Any) -> Callable[[Builder], Builder]:
    """Give a class or function its name in a config; the part itself is returned unchanged.

    Args:
        facts: more about the part, such as how tables show a metric.
    """

    def add(builder: Builder) -> Builder:
        # A plug-in may be the first to import a room of ours, whose parts are not the plug-in's.
        owner = None if builder.__module__.startswith("cnnbench.") else _owner
        if known := _parts.get((kind, name)):
            raise NameTaken(kind, name, known.owner, owner)
        _parts[kind, name] = _Part(builder, facts, owner)
        return builder

    return add


def discover(package: ModuleType) -> None:
    """Import every module directly inside `package`, so that each registers its parts."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


@contextmanager
def own_parts(owner: str) -> Iterator[None]:
    """A context in which the parts that are registered belong to a plug-in. If it fails, they are removed."""
    global _owner
    before, _owner = _owner, owner
    try:
        yield
    except BaseException:
        remove_parts(owner)
        raise
    finally:
        _owner = before  # a plug-in may import another one
        _clear_caches()


def adopt_parts(module: str, owner: str) -> None:
    """Give a plug-in the parts of its module that were registered before, because the module was imported already."""
    for part in _parts.values():
        if part.owner is None and f"{part.builder.__module__}.".startswith(f"{module}."):
            part.owner = owner


def remove_parts(owner: str) -> None:
    """Remove the parts of a plug-in."""
    for part in list_parts(owner):
        del _parts[part]
    _clear_caches()


def list_parts(owner: str) -> list[tuple[str, str]]:
    """Kind and name of each part of a plug-in, in the order of their registration."""
    return [key for key, part in _parts.items() if part.owner == owner]


def is_owned(kind: str, name: str) -> bool:
    """Whether a part belongs to a plug-in."""
    return (kind, name) in _parts and _parts[kind, name].owner is not None


def renew_with_parts(cached: Builder) -> Builder:
    """Mark a `functools.cache` of what is known about parts, so that it is emptied when a plug-in adds some."""
    _caches.append(cached.cache_clear)  # type: ignore[attr-defined]
    return cached


def _clear_caches() -> None:
    for clear in _caches:
        clear()


def list_names(kind: str) -> list[str]:
    """The registered names of one kind that a config may choose, sorted.

    A part that is registered with `listed=False` is one that only a Python program can give.
    """
    return sorted(name for (own, name), part in _parts.items() if own == kind and part.facts.get("listed", True))


def get_facts(kind: str, name: str) -> dict[str, Any]:
    """What a part was registered with besides its name; empty for an unknown part."""
    return _parts[kind, name].facts if (kind, name) in _parts else {}


def find_part(kind: str, name: str) -> Callable[..., Any]:
    """The class or function behind a name; a ValueError lists the valid names and the nearest."""
    if (kind, name) not in _parts:
        raise ValueError(describe_unknown(kind, name, list_names(kind)))
    return _parts[kind, name].builder


def build(kind: str, name: str, *, options: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """Call the part called `name` with `arguments` from the program and `options` from a user's config.

    A part declares its options in a class and takes them as one parameter, such as `options: VggOptions`.

    Raises:
        ValueError: unknown name or option, an option of the wrong type or a missing one, or what the part
            itself refuses.
    """
    checked = check_options(kind, name, options or {})
    if checked is not None:
        arguments["options"] = checked
    return find_part(kind, name)(**arguments)


def check_options(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """The options of a part, checked in its own class of options; None where the part has none.

    Raises:
        ValueError: an option that the part does not have, lacks, or does not accept.
    """
    declared, section = find_options_class(kind, name), kind.partition("_")[0]  # data_shape takes the options of data
    if declared is not None:
        return declared.from_plain(options, f"{section}.{name}" if section == "logger" else section)
    if options:
        raise ValueError(describe_unknown(f"key of {section}={name}", next(iter(options)), []))
    return None


def find_options_class(kind: str, name: str) -> Any:
    """The class in which a part declares its options (`config.keys.Options`); None where it has none."""
    return _read_annotations(find_part(kind, name)).get("options")


@functools.cache
def _read_annotations(builder: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)


def check_choice(what: str, got: str, choices: Iterable[Word]) -> Word:
    """The choice that is equal to a text; a ValueError lists the choices and the nearest."""
    valid = list(choices)
    for word in valid:
        if word == got:
            return word
    raise ValueError(describe_unknown(what, got, valid))


def describe_unknown(what: str, got: object, choices: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest valid one first, then all of them."""
    valid = sorted(choices)
    near = find_nearest(str(got), valid)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"unknown {what} {str(got)!r}.{hint} Valid: {', '.join(valid) or '(none)'}"


def find_nearest(got: str, choices: Iterable[str]) -> str | None:
    """The choice most like `got`, if any is like it at all."""
    match = difflib.get_close_matches(got.lower(), list(choices), n=1, cutoff=0.5)  # the default is 0.6
    return match[0] if match else None
