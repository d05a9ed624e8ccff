"""Load the plug-ins that a command names, by `--plugin` or `plugins=[…]`, and those of installed packages."""

from collections.abc import Sequence

from cnnbench.cli.choices import set_plugin_files
from cnnbench.cli.options import is_plugins
from cnnbench.cli.streams import show_warnings
from cnnbench.config.text_values import split_list
from cnnbench.plugins.loading import list_plugins, load, load_all, publish, unload
from cnnbench.plugins.places import PluginError, find_place, list_entry_points


def load_plugins(given: Sequence[str], overrides: Sequence[str] = (), *, installed: bool = True) -> None:
    """Load plug-ins for a command, and for the processes that it starts.

    Args:
        given: those of `--plugin`.
        overrides: of the command; `plugins=[…]` among them names others.
        installed: also load those of installed packages. One of these that fails is left out with a warning.

    Raises:
        PluginError: one that the command names cannot be used.
        ValueError: `plugins` has several values.
    """
    load_all([*given, *(source for text in overrides if is_plugins(text) for source in _split(text))])
    if installed:
        _load_entry_points()
    set_plugin_files({key: path for plugin in list_plugins() for key, path in plugin.files.items()})
    publish()


def _split(override: str) -> list[str]:
    value = override.partition("=")[2]
    if "],[" in value.replace(" ", ""):
        raise ValueError(f"{override} names several values: give one list, such as plugins=[a.py,b.py]")
    return split_list(value)


def _load_entry_points() -> None:
    for module, package in list_entry_points().items():
        try:
            load(find_place(module), is_named=False)
        except PluginError as error:
            unload(module)
            show_warnings([f"the plug-in of the installed package {package} is left out: {error}"])
