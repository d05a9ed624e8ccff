"""Import plug-ins, so that the registry knows their parts.

Only the command line names plug-ins; a file that a command reads never does, because that file may be a stranger's.
"""

import importlib
import importlib.util
import json
import os
import shlex
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from cnnbench import registry
from cnnbench.config.declared import list_own_names
from cnnbench.plugins.places import Place, PluginError, find_place, name_source
from cnnbench.plugins.yaml_files import find_files
from cnnbench.registry import describe_unknown
from cnnbench.storage.text import format_path

VARIABLE = "_CNNBENCH_PLUGINS"  # passes plug-ins with their hashes to started processes, which must run the same code
# The kinds of parts that a plug-in may register. Those of the second line belong to a dataset.
KINDS = ("model", "data", "augment", "metric", "measure", "optimizer", "scheduler")
OF_DATA = ("data_shape", "data_kept", "data_files")


@dataclass(frozen=True)
class Plugin:
    """A plug-in that has been imported.

    Attributes:
        parts: kind and name of each part that it registers.
        files: its YAML files, by group and name.
        is_named: the command names it; otherwise it was found because it is installed.
    """

    place: Place
    sha256: str
    parts: tuple[tuple[str, str], ...]
    files: Mapping[tuple[str, str], Path]
    is_named: bool


_loaded: dict[str, Plugin] = {}


class _Fresh(SourceFileLoader):
    """Compiles the source, and neither reads nor writes bytecode, which may be older than an edit."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def list_plugins() -> list[Plugin]:
    """The plug-ins that are loaded."""
    return [*_loaded.values()]


def load_all(sources: Iterable[str]) -> None:
    """Load the plug-ins that a command names; a PluginError as of `load`, or if one is named twice."""
    named: set[str] = set()
    for source in sources:
        place = find_place(source)
        if place.source in named:
            raise PluginError(f"plug-in {format_path(source)}: named twice: leave one of them out")
        named.add(place.source)
        load(place)


def load(place: Place, *, is_named: bool = True) -> Plugin:
    """Import a plug-in, unless its present code is loaded already.

    Raises:
        PluginError: it fails, registers nothing, or has a part or a YAML file that does not fit.
    """
    known, sha256 = _loaded.get(place.name), place.hash_code()
    if known and known.place.source != place.source:
        raise PluginError(
            f"plug-in {format_path(place.source)}: {format_path(known.place.source)} has the same name: rename one"
        )
    if known and known.sha256 == sha256:
        return known
    unload(place.name)  # its file has been edited since
    before = {*sys.modules}
    try:
        with registry.own_parts(place.name):
            _import(place)
            parts = _check_parts(place)
            _loaded[place.name] = Plugin(place, sha256, parts, find_files(place, parts), is_named)
    except (Exception, SystemExit) as error:  # a script may end with sys.exit
        _forget_modules(place, before)
        if isinstance(error, PluginError):
            raise
        is_clear = isinstance(error, registry.NameTaken)
        raise PluginError(str(error) if is_clear else _describe_failure(error, place)) from error
    return _loaded[place.name]


def unload(name: str) -> None:
    """Forget a plug-in."""
    plugin = _loaded.pop(name, None)
    registry.remove_parts(name)
    if plugin:
        _forget_modules(plugin.place)


def _forget_modules(place: Place, kept: Collection[str] = ()) -> None:
    """Let the next import run the modules of a plug-in again."""
    prefix = _name_module(place)
    # `kept` were imported before: the program may hold objects of an installed package's modules.
    for module in [one for one in sys.modules if f"{one}.".startswith(f"{prefix}.") and one not in kept]:
        del sys.modules[module]


def _name_module(place: Place) -> str:
    # The prefix keeps a file such as `torch.py` from replacing the package of that name.
    return place.name if place.is_installed else f"cnnbench_plugin_{place.name}"


def _import(place: Place) -> None:
    name = _name_module(place)
    if place.is_installed:
        importlib.import_module(name)  # does nothing if the program has imported it before
        registry.adopt_parts(name.partition(".")[0], place.name)
        return
    inside = [str(place.folder)] if place.is_package else None
    loader = _Fresh(name, str(place.file))
    spec = importlib.util.spec_from_file_location(name, place.file, loader=loader, submodule_search_locations=inside)
    assert spec is not None, "the loader is given"
    # Before it runs: dataclasses and pickles look their module up.
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)


def _check_parts(place: Place) -> tuple[tuple[str, str], ...]:
    parts, shown = registry.list_parts(place.name), format_path(place.source)
    if not parts:
        raise PluginError(
            f'plug-in {shown}: it registers nothing: write @register("model", "{place.name}") above a function or class'
        )
    for kind, name in parts:
        if kind not in (*KINDS, *OF_DATA):
            raise PluginError(f"plug-in {shown}: {describe_unknown('kind of part', kind, KINDS)}")
        if name in list_own_names(kind):  # `register` cannot tell, where ours are not imported yet
            raise registry.NameTaken(kind, name, place.name, None)
    return tuple(parts)


def locate_error(error: BaseException, place: Place | None = None) -> str:
    """Where in the code of a plug-in an error was raised, to precede its message: `my_net.py:12: `, or empty elsewhere.

    Args:
        place: of the plug-in, if it is not loaded yet.
    """
    places = [place] if place else [plugin.place for plugin in _loaded.values()]
    errors: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in errors:  # our own code may have raised it again, in other words
        errors.append(found)
        found = found.__cause__ or found.__context__
    for raised in reversed(errors):
        lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(raised.__traceback__)]
        if isinstance(raised, SyntaxError) and raised.filename:
            lines.append((raised.filename, raised.lineno))
        for file, line in reversed(lines):
            if any(one.has_file(file) for one in places):
                return f"{format_path(file)}:{line}: "
    return ""


def describe_error(error: BaseException) -> str:
    """The type and the message of an error, after the line of a plug-in where it was raised."""
    return f"{locate_error(error)}{type(error).__name__}: {error}"


def _describe_failure(error: BaseException, place: Place) -> str:
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    hint = ""
    # The folder of a plug-in is not on the path, so `import` does not find the file next to it.
    if isinstance(error, ModuleNotFoundError) and (place.folder / f"{error.name}.py").is_file():
        folder = "" if place.is_package else ", in a folder with __init__.py that you name instead of the file"
        hint = f". For {error.name}.py beside it, write: from . import {error.name}{folder}"
    where = locate_error(error, place) or f"{format_path(place.file)}: "
    return f"plug-in {place.name} cannot be imported: {where}{type(error).__name__}: {text}{hint}"


def publish() -> None:
    """Make the processes that this one starts from now on load the same plug-ins."""
    if not _loaded:
        os.environ.pop(VARIABLE, None)
        return
    plain = [[plugin.place.source, plugin.sha256, plugin.is_named] for plugin in _loaded.values()]
    os.environ[VARIABLE] = json.dumps(plain)


def load_from_parent() -> None:
    """In a process that a command has started, load the command's plug-ins.

    Raises:
        PluginError: one has changed since the command loaded it, or as `load` does.
    """
    for source, sha256, is_named in json.loads(os.environ.get(VARIABLE, "[]")):
        known = _loaded.get(name_source(source))
        if known and known.sha256 == sha256:
            continue
        place = find_place(source)
        if place.hash_code() != sha256:
            raise PluginError(f"plug-in {format_path(source)}: it has changed since this command began: repeat it")
        load(place, is_named=is_named)


def describe_plugins() -> list[dict[str, Any]]:
    """What `env.json` records of each plug-in: name, version or path, hash and parts."""
    return [
        {
            "name": plugin.place.name,
            **({"version": plugin.place.version} if plugin.place.is_installed else {"path": plugin.place.source}),
            "sha256": plugin.sha256,
            "parts": [f"{kind} {name}" for kind, name in plugin.parts],
        }
        for plugin in _loaded.values()
    ]


def format_option(source: str) -> str:
    """The option that names a plug-in, for any command."""
    return f"--plugin {shlex.quote(source)}"
