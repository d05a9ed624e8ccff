"""What a run's config records of the plug-ins that it uses, and what a run needs when it is opened again."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import registry
from cnnbench.config.schema import Config
from cnnbench.plugins.loading import Plugin, format_option, list_plugins
from cnnbench.plugins.places import PluginError, find_source, is_path, name_source
from cnnbench.plugins.yaml_files import GROUPS
from cnnbench.storage.text import format_path, make_printable

log = logging.getLogger("cnnbench")
SHOWN = 12  # characters of a hash in a message


def refuse_from_files(plain: Mapping[str, Any]) -> None:
    """Check that a composed config, given as plain data, names no plug-in that the command does not name.

    Raises:
        PluginError: a YAML file names one, or a user sets `plugin_sha256`.
    """
    loaded = {plugin.place.source for plugin in list_plugins()}
    for given in plain["plugins"]:
        if find_source(given) not in loaded:
            raise PluginError(f"plugins=[{format_path(given)}]: a file cannot load a plug-in: name it in the command")
    if plain["plugin_sha256"]:
        raise PluginError("plugin_sha256: cnnbench records it; leave it out")


def record_plugins(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The keys `plugins` and `plugin_sha256` of a config, given as plain data, by what is loaded now."""
    loaded = list_plugins()
    used = [plugin for plugin in loaded if _is_used(plugin, plain)]
    return {
        "plugins": [plugin.place.source for plugin in loaded if plugin.is_named or plugin in used],
        "plugin_sha256": {plugin.place.name: plugin.sha256 for plugin in used},
    }


def _is_used(plugin: Plugin, plain: Mapping[str, Any]) -> bool:
    return any((group, plain[group]["name"]) in plugin.parts for group in GROUPS)


def require_plugins(config: Config, what: Path, *, unchanged: bool = False) -> None:
    """Check that the plug-ins that a recorded config uses are loaded, and warn of one whose code has changed.

    Args:
        what: the folder that holds the config.
        unchanged: refuse changed code, because the run goes on.

    Raises:
        PluginError: one is not loaded; the message says how to name it.
    """
    loaded = {plugin.place.name for plugin in list_plugins()}
    for name, sha256 in config.plugin_sha256.items():
        if name not in loaded:
            raise PluginError(_describe_missing(name, sha256, config.plugins, what))
    for change in describe_code_changes(config):
        if unchanged:
            raise PluginError(f"{format_path(what)}: {change}. A run goes on only with the code that it began with")
        log.warning("%s: %s", format_path(what), change)


def describe_code_changes(config: Config) -> list[str]:
    """A sentence for each loaded plug-in whose code differs from what a recorded config used."""
    return [
        f"the code of the plug-in {plugin.place.name} has changed: its SHA-256 is {plugin.sha256[:SHOWN]}…, and was "
        f"{make_printable(recorded)[:SHOWN]}…"
        for plugin in list_plugins()
        if (recorded := config.plugin_sha256.get(plugin.place.name, plugin.sha256)) != plugin.sha256
    ]


def require_metrics(environment: Mapping[str, Any], what: Path) -> None:
    """Check that the metrics of plug-ins that a run's `env.json` lists are registered.

    Raises:
        PluginError: one is not.
    """
    recorded = environment.get("plugins")
    for plugin in recorded if isinstance(recorded, list) else ():
        fields = {key: str(value) for key, value in plugin.items()} if isinstance(plugin, dict) else {}
        parts = plugin["parts"] if isinstance(fields and plugin.get("parts"), list) else []
        metrics = [str(part).removeprefix("metric ") for part in parts if str(part).startswith("metric ")]
        if not {*metrics} <= {*registry.list_names("metric")}:
            name = fields.get("name", "")
            source = fields.get("path", name)
            raise PluginError(_describe_missing(name, fields.get("sha256", ""), [source], what))


def _describe_missing(name: str, sha256: str, sources: Sequence[str], what: Path) -> str:
    source = next((source for source in sources if name_source(source) == name), None)
    start = (
        f"{format_path(what)} needs the plug-in {make_printable(name)}. Opening a folder never runs code of its own: "
    )
    if source is not None and is_path(source) and not Path(source).exists():
        return (
            f"{start}{format_path(source)} is not here, so add --plugin FILE with the file whose SHA-256 is "
            f"{make_printable(sha256)}"
        )
    installed = "" if source is None or is_path(source) else ", once it is installed"
    return f"{start}if you trust it, add {make_printable(format_option(source or name))}{installed}"
