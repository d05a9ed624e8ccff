"""Names to code: what the `name` of a part in a config may be, and how the part is built.

A part registers itself where it is written:

    @register("model", "mlp")
    class MLP(nn.Module): ...

and is found because `discover` imports every module of its package. Adding a part therefore edits no list.
"""

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T", bound=Callable[..., Any])

_builders: dict[str, dict[str, Callable[..., Any]]] = {}
_facts: dict[tuple[str, str], dict[str, Any]] = {}


def register(kind: str, name: str, **facts: Any) -> Callable[[T], T]:
    """Give a class or function its name in a config; the part itself is returned unchanged.

    Args:
        facts: more about the part, such as how tables show a metric.

    Raises:
        ValueError: the kind already has another part of that name.
    """

    def add(builder: T) -> T:
        parts = _builders.setdefault(kind, {})
        if name in parts:
            raise ValueError(f"{kind} {name!r} is registered twice: {parts[name]!r} and {builder!r}")
        parts[name] = builder
        _facts[kind, name] = facts
        return builder

    return add


def discover(package: ModuleType) -> None:
    """Import every module directly inside `package`, so that each registers its parts."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


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
