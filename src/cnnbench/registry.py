"""Names to code: what the `name` of a part in a config may be, and how the part is built.

A part registers itself where it is written:

    @register("model", "mlp")
    class MLP(nn.Module): ...

and is found because `discover` imports every module of its package. Adding a part therefore edits no list. Parts that a
plug-in registers, which is imported inside `own_parts`, belong to it.
"""

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T", bound=Callable[..., Any])

_builders: dict[str, dict[str, Callable[..., Any]]] = {}
_facts: dict[tuple[str, str], dict[str, Any]] = {}
_owners: dict[tuple[str, str], str] = {}  # the plug-in of each part that is not ours
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


def register(kind: str, name: str, **facts: Any) -> Callable[[T], T]:
    """Give a class or function its name in a config; the part itself is returned unchanged.

    Args:
        facts: more about the part, such as how tables show a metric.

    Raises:
        NameTaken: the kind already has another part of that name.
    """

    def add(builder: T) -> T:
        parts = _builders.setdefault(kind, {})
        # A plug-in may be what imports a room of ours for the first time.
        owner = None if builder.__module__.startswith("cnnbench.") else _owner
        if name in parts:
            raise NameTaken(kind, name, _owners.get((kind, name)), owner)
        parts[name] = builder
        _facts[kind, name] = facts
        if owner is not None:
            _owners[kind, name] = owner
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
        _owner = before
        _clear_caches()


def adopt_parts(module: str, owner: str) -> None:
    """Give a plug-in the parts of its module that were registered before, because the module was imported already."""
    for kind, parts in _builders.items():
        for name, builder in parts.items():
            if f"{builder.__module__}.".startswith(f"{module}."):
                _owners.setdefault((kind, name), owner)


def remove_parts(owner: str) -> None:
    """Remove the parts of a plug-in."""
    for kind, name in list_parts(owner):
        del _builders[kind][name], _facts[kind, name], _owners[kind, name]
    _clear_caches()


def list_parts(owner: str) -> list[tuple[str, str]]:
    """Kind and name of each part of a plug-in, in the order of their registration."""
    return [part for part, plugin in _owners.items() if plugin == owner]


def is_owned(kind: str, name: str) -> bool:
    """Whether a part belongs to a plug-in."""
    return (kind, name) in _owners


def renew_with_parts(cached: T) -> T:
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
    return sorted(name for name in _builders.get(kind, {}) if _facts[kind, name].get("listed", True))


def get_facts(kind: str, name: str) -> dict[str, Any]:
    """What a part was registered with besides its name."""
    return _facts.get((kind, name), {})


def find_part(kind: str, name: str) -> Callable[..., Any]:
    """The class or function behind a name.

    Raises:
        ValueError: no such name; the message lists the valid ones and the nearest.
    """
    try:
        return _builders.get(kind, {})[name]
    except KeyError:
        raise ValueError(describe_unknown(kind, name, list_names(kind))) from None


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
    """Check the options of a part, in its own class of options; None where the part has none.

    Raises:
        ValueError: an option the part does not have, lacks, or does not accept.
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


def describe_unknown(what: str, got: object, choices: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest valid one first, then all of them."""
    valid = sorted(choices)
    near = find_nearest(str(got), valid)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"unknown {what} {str(got)!r}.{hint} Valid: {', '.join(valid) or '(none)'}"


def find_nearest(got: str, choices: Iterable[str]) -> str | None:
    """The choice most like `got`, if any is like it at all."""
    match = difflib.get_close_matches(got.lower(), list(choices), n=1, cutoff=0.5)
    return match[0] if match else None
