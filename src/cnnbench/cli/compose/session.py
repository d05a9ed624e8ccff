"""A Hydra session with our configs, Hydra's parser of overrides, and which of its launchers a command names."""

import importlib.util
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.version import VersionBase
from omegaconf import OmegaConf

from cnnbench.cli.choices import find_config_dir, get_plugin_files, list_groups
from cnnbench.cli.compose.quoting import parse_override
from cnnbench.cli.compose.unknown_keys import explain_word
from cnnbench.config import schema
from cnnbench.registry import describe_unknown

NO_LAUNCHER = "basic"  # Hydra's default: the command runs the jobs itself
# Each launcher's package, and the extra of cnnbench that installs it.
PACKAGES = {
    "joblib": ("hydra_joblib_launcher", "parallel"),
    "ray": ("hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}

OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
ConfigStore.instance().store(name="defaults", node=schema.make_default_dict(), provider="cnnbench")


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
                text = path.read_text(encoding="utf-8")
                # Hydra reads this line in the files of its config folder only.
                package = re.search(r"^# @package +(\S+)", text, re.MULTILINE)
                options = {"package": package[1] if package else None, "provider": "cnnbench"}
                ConfigStore.instance().store(name, OmegaConf.create(text), group, **options)
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
    return [parse_override(text, get_hydra().config_loader) for text in overrides]


def find_launcher(overrides: Sequence[str]) -> str:
    """The launcher that a command names; `basic` without one.

    Raises:
        ValueError: there is no such launcher, or its package is missing; the message says how to install it.
    """
    named = [text.partition("=")[2] for text in overrides if text.partition("=")[0].lstrip("+") == "hydra/launcher"]
    name = named[-1] if named else NO_LAUNCHER
    if name == NO_LAUNCHER:
        return name
    if name not in PACKAGES:
        raise ValueError(describe_unknown("launcher", name, [NO_LAUNCHER, *PACKAGES]))
    package, extra = PACKAGES[name]
    if importlib.util.find_spec("hydra_plugins") is None or not importlib.util.find_spec(f"hydra_plugins.{package}"):
        raise ValueError(f"hydra/launcher={name} needs a package that is missing: pip install 'cnnbench[{extra}]'")
    return name
