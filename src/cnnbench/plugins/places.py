"""Find the code of a plug-in by a path or the name of a module, and hash it."""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cnnbench.registry import find_nearest
from cnnbench.storage.text import format_path

INIT = "__init__.py"


class PluginError(ValueError):
    """A plug-in cannot be used; the message says which, and why."""


@dataclass(frozen=True)
class Place:
    """Where the code of a plug-in is.

    Attributes:
        name: that of its file or folder without `.py`, or of its module.
        source: an absolute path, or the name of an installed module.
        file: the file that is imported.
        folder: where its YAML files are.
        is_package: all the code in the folder belongs to it; otherwise only the file does.
        version: of the installed package; None for a path.
    """

    name: str
    source: str
    file: Path
    folder: Path
    is_package: bool
    version: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether it is found by the name of a module, not by a path."""
        return self.name == self.source

    def hash_code(self) -> str:
        """The SHA-256 of its file; of a package, that of a list of all its Python files with theirs."""
        if not self.is_package:
            return _hash(self.file.read_bytes())
        files = sorted(self.folder.rglob("*.py"))
        # Relative paths: a folder that is moved keeps its hash, and a file that is renamed changes it.
        lines = (f"{_hash(file.read_bytes())}  {file.relative_to(self.folder).as_posix()}\n" for file in files)
        return _hash("".join(lines).encode())

    def has_file(self, file: str) -> bool:
        """Whether a file is part of its code."""
        return file == str(self.file) or (self.is_package and Path(file).is_relative_to(self.folder))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def find_place(given: str) -> Place:
    """Find the code that a user names by a path or a module. Of `a.b`, the package `a` is imported.

    Raises:
        PluginError: there is no such file or module, or it is not Python code.
    """
    path = _find_path(given)
    return _find_module(given) if path is None else _find_file(path)


def find_source(given: str) -> str:
    """The `source` of the place that a user means, without importing anything: finding `a.b` imports `a`."""
    path = _find_path(given)
    if path is None:
        return given
    path = path.resolve()
    return str(path.parent if path.name == INIT else path)


def _find_path(given: str) -> Path | None:
    path = Path(os.path.expanduser(given))
    return path if is_path(given) or path.is_file() or path.is_dir() else None


def is_path(source: str) -> bool:
    """Whether a plug-in is named by a path, and not by a module."""
    return source.endswith(".py") or "/" in source or os.sep in source


def name_source(source: str) -> str:
    """The name of the plug-in that a recorded source loads."""
    return Path(source).stem if is_path(source) else source


def _find_file(path: Path) -> Place:
    shown = format_path(path)
    if not path.exists():
        near = find_nearest(path.name, [other.name for other in _list_candidates(path.parent)])
        hint = f" Did you mean {format_path(path.with_name(near))!r}?" if near else ""
        raise PluginError(f"plug-in {shown}: there is no such file.{hint}")
    path = path.resolve()  # a link and its target are one plug-in
    folder = path.parent if path.name == INIT else path
    is_package = folder.is_dir()
    file = folder / INIT if is_package else path
    if not file.is_file() or file.suffix != ".py":
        raise PluginError(f"plug-in {shown}: must be a Python file, or a folder with {INIT}")
    name = folder.stem
    if not re.fullmatch(r"[\w-]+", name):
        raise PluginError(f"plug-in {shown}: its name may have letters, digits, _ and - only")
    return Place(name, str(folder), file, folder if is_package else path.parent, is_package)


def _list_candidates(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.suffix == ".py" or (path / INIT).is_file()]


def _find_module(name: str) -> Place:
    top = name.partition(".")[0]
    try:
        spec, whole = importlib.util.find_spec(name), importlib.util.find_spec(top)
    except (ImportError, ValueError):  # of `a.b`, where there is no package `a`
        spec = whole = None
    except Exception as error:  # of `a.b`, where `a` fails
        raise PluginError(f"plug-in {name!r}: {top} cannot be imported: {type(error).__name__}: {error}") from error
    # Built-in modules, extensions and namespace packages have no Python file.
    if spec is None or whole is None or spec.origin is None or not spec.origin.endswith(".py"):
        nearby = {word: path.name for path in _list_candidates(Path()) for word in (path.name, path.stem)}
        near = nearby.get(find_nearest(name, nearby) or "") or find_nearest(name, list_entry_points())
        hint = f" Did you mean {near!r}?" if near else ""
        raise PluginError(f"plug-in {name!r}: there is no such file, and no installed module of this name.{hint}")
    # All of a package is hashed, because its modules import each other.
    inside = whole.submodule_search_locations
    folder = Path(next(iter(inside))) if inside else Path(spec.origin).parent
    return Place(name, name, Path(spec.origin), folder, inside is not None, find_version(name))


def list_entry_points() -> dict[str, str]:
    """The modules of installed packages with the entry point `cnnbench.plugins`, each with its package's name."""
    found = importlib.metadata.entry_points(group="cnnbench.plugins")
    return {point.module: point.dist.name if point.dist else point.name for point in found}


def find_version(module: str) -> str | None:
    """The version of the package that a module was installed with; None if it is not known."""
    package = list_entry_points().get(module, module.partition(".")[0])
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
