"""Record the plug-ins that a run uses in its config, and check that they are loaded when the run is opened again."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import registry
from cnnbench.config.schema import Config
from cnnbench.plugins.loading import format_option, list_plugins
from cnnbench.plugins.places import PluginError, find_source, is_path, name_source
from cnnbench.plugins.yaml_files import GROUPS
from cnnbench.storage.text import format_path, make_printable

log = logging.getLogger("cnnbench")
SHOWN = 12  # characters of a hash in a message


def refuse_from_files(plain: Mapping[str, Any]) -> None:
    """Raise a PluginError if a YAML file of a composed config names a plug-in, or a user sets `plugin_sha256`."""
    # The command's own are loaded by now, so any other name comes from a file.
    loaded = {plugin.place.source for plugin in list_plugins()}
    for given in plain["plugins"]:
        if find_source(given) not in loaded:
            raise PluginError(f"plugins=[{format_path(given)}]: a file cannot load a plug-in: name it in the command")
    if plain["plugin_sha256"]:
        raise PluginError("plugin_sha256: cnnbench records it; leave it out")


def record_plugins(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The keys `plugins` and `plugin_sha256` of a config, which is plain data, for the plug-ins that are loaded."""
    loaded = list_plugins()
    used = [one for one in loaded if any((group, plain[group]["name"]) in one.parts for group in GROUPS)]
    return {
        "plugins": [plugin.place.source for plugin in loaded if plugin.is_named or plugin in used],
        "plugin_sha256": {plugin.place.name: plugin.sha256 for plugin in used},
    }


def require_plugins(config: Config, what: Path, *, unchanged: bool = False) -> None:
    """Check that the plug-ins that a recorded config uses are loaded, and warn of one whose code has changed.

    Args:
        what: the folder that holds the config.
        unchanged: refuse changed code, because the run is continued.

    Raises:
        PluginError: some are not loaded; the message says how to name all of them.
    """
    loaded = {plugin.place.name for plugin in list_plugins()}
    sources = {name_source(source): source for source in config.plugins}
    used = config.plugin_sha256.items()
    _refuse_missing([(name, sha256, sources.get(name, name)) for name, sha256 in used if name not in loaded], what)
    for change in describe_code_changes(config):
        if unchanged:
            raise PluginError(f"{format_path(what)}: {change}. A run continues only with the code that it began with")
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
    """Raise a PluginError if metrics of plug-ins that a run's `env.json` lists are not registered."""
    recorded = environment.get("plugins")
    missing = []
    for plugin in recorded if isinstance(recorded, list) else ():  # a stranger's file may hold anything
        fields = {key: str(value) for key, value in plugin.items()} if isinstance(plugin, dict) else {}
        parts = plugin["parts"] if isinstance(fields and plugin.get("parts"), list) else []
        metrics = {str(part).removeprefix("metric ") for part in parts if str(part).startswith("metric ")}
        if not metrics <= {*registry.list_names("metric")}:
            name = fields.get("name", "")
            missing.append((name, fields.get("sha256", ""), fields.get("path", name)))
    _refuse_missing(missing, what)


def _refuse_missing(missing: Sequence[tuple[str, str, str]], what: Path) -> None:
    """Raise a PluginError if there are any; each has its name, its hash, and what loads it."""
    remedies = []
    for name, sha256, source in missing:
        if not is_path(source):
            remedies.append(f"if you trust {name}, add {format_option(source)}, once it is installed")
        elif Path(source).exists():
            remedies.append(f"if you trust {name}, add {format_option(source)}")
        else:
            remedies.append(f"{source} is not here, so add --plugin FILE with the file whose SHA-256 is {sha256}")
    if missing:
        names = f"plug-in{'s' * (len(missing) > 1)} {' and '.join(name for name, _, _ in missing)}"
        advice = f"Opening a folder never runs its code: {'; '.join(remedies)}"
        raise PluginError(make_printable(f"{format_path(what)} needs the {names}. {advice}"))
