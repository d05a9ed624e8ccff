"""A Hydra session with our configs, and Hydra's parser of overrides."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import OmegaConf

from cnnbench.cli.choices import find_config_dir, get_plugin_files, list_groups
from cnnbench.cli.literal import explain_syntax
from cnnbench.cli.usage import explain_word
from cnnbench.config import schema
from cnnbench.registry import describe_unknown
from cnnbench.storage.text import get_first_line


@contextmanager
def start_hydra() -> Iterator[None]:
    """A context in which Hydra is initialized with our configs. Afterwards it is as the program left it."""
    theirs, base = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
    GlobalHydra.instance().clear()
    launchers: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(find_config_dir()), job_name="cnnbench"):
            # A launcher's package registers a schema of the same name as our YAML file, and Hydra would warn about it.
            launchers = ConfigStore.instance().repo["hydra"].get("launcher", {})
            names = [path.name for path in (find_config_dir() / "hydra/launcher").glob("*.yaml")]
            hidden = {name: launchers.pop(name) for name in names if name in launchers}
            for (group, name), path in get_plugin_files().items():
                _store(group, name, path.read_text(encoding="utf-8"))
            yield
    finally:
        launchers |= hidden
        GlobalHydra.instance().hydra = theirs
        VersionBase.instance().version_base = base


@contextmanager
def offer_parts(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """A context in which a config may choose parts that have no YAML file: by group, their `name` and options."""
    store = ConfigStore.instance()
    for group, node in parts.items():
        store.store(group=group, name=node["name"], node=dict(node), provider="cnnbench")
    try:
        yield
    finally:
        for group, node in parts.items():
            del store.repo[group][f"{node['name']}.yaml"]


def _store(group: str, name: str, text: str) -> None:
    """Offer the YAML text of a plug-in's file to Hydra, which reads the line `# @package …` in our own files only."""
    package = re.search(r"^# @package +(\S+)", text, re.MULTILINE)
    node = OmegaConf.create(text)
    ConfigStore.instance().store(
        group=group, name=name, node=node, package=package[1] if package else None, provider="cnnbench"
    )


def get_hydra() -> Hydra:
    """Return the Hydra of the current `start_hydra` context."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None, "only within start_hydra()"
    return hydra


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse a command's overrides inside a `start_hydra` context.

    Raises:
        ValueError: one is not an override; the message explains what is wrong with it.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ValueError(explain_word(text))
        key = text.lstrip("+~").partition("=")[0]
        if not key.isascii():
            raise ValueError(describe_unknown("key", key, {*list_groups(), *schema.make_default_dict()}))
    hydra = get_hydra()
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            raise ValueError(explain_syntax(text, get_first_line(error))) from None
    return parsed
