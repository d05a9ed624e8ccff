"""Hydra: from overrides to checked configs, one for a run or one for each job of a sweep."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench import config as schema
from cnnbench.cli.choices import config_dir, groups
from cnnbench.config import Config
from cnnbench.registry import nearest, unknown

OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
ConfigStore.instance().store(name="defaults", node=schema.default_dict(), provider="cnnbench")


@dataclass
class Job:
    """One run that was asked for.

    Attributes:
        overrides: what makes it, in Hydra's words.
    """

    overrides: list[str]
    config: Config


@dataclass
class Request:
    """What a command line asks for.

    Attributes:
        folder: where the run, or the sweep, is to go; not made yet.
        axes: the keys that a sweep varies, in the order they were given.
        is_sweep: whether the jobs go into folders of their own inside `folder`.
    """

    jobs: list[Job]
    folder: Path
    axes: list[str]
    is_sweep: bool
    hydra: DictConfig


@contextmanager
def _hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir()), job_name="cnnbench"):
        yield


def _loaded() -> Hydra:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None, "only within _hydra()"
    return hydra


def request(overrides: Sequence[str], *, multirun: bool = False) -> Request:
    """Compose and check what was asked, every job of it, before anything starts.

    Raises:
        ValueError: a key, name, type or value that is not accepted; several values without `-m`.
    """
    overrides = extending(overrides)
    with _hydra():
        parsed = _parse(overrides)
        base = _compose(overrides, parsed, sweeps=True)
        is_sweep = multirun or str(base.hydra.mode).endswith("MULTIRUN")
        several = [o.input_line for o in parsed if o.is_sweep_override()]
        if several and not is_sweep:
            raise ValueError(f"{several[0]} names several values: add -m to run each of them")
        if not is_sweep:
            return Request([_job(overrides, parsed)], Path(base.hydra.run.dir), [], False, base)
        if OmegaConf.is_interpolation(base, "name"):
            base.name = "sweep"  # the default names one model and one dataset, and a sweep may have several
        params = [f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()]
        task = _parse([*params, *(str(o.input_line) for o in parsed if not o.is_hydra_override())])
        hydra_overrides = [str(o.input_line) for o in parsed if o.is_hydra_override()]
        combinations = BasicSweeper.split_arguments(task, max_batch_size=None)[0]
        jobs = [_job([*hydra_overrides, *one], _parse(one)) for one in combinations]
        last = {o.get_key_element(): o for o in task}
        axes = [key.lstrip("+") for key, o in last.items() if o.is_sweep_override()]
        return Request(jobs, Path(base.hydra.sweep.dir), axes, True, base)


def single(overrides: Sequence[str]) -> Config:
    """The checked config of one run.

    Raises:
        ValueError: as `request`, and where a sweep was asked for.
    """
    overrides = extending(overrides)
    with _hydra():
        parsed = _parse(overrides)
        for o in parsed:
            if o.is_sweep_override():
                raise ValueError(f"{o.input_line} names several values: accepted here is one")
        return _job(overrides, parsed).config


def extending(overrides: Sequence[str]) -> list[str]:
    """The overrides in Hydra's words: `key={…}` as `++key={…}`, which adds keys, and several loggers as a list.

    Without `++`, Hydra takes only keys that are there; `logger=a,b` would be a sweep, which nobody wants of loggers.
    """
    listed = [f"logger=[{text[7:]}]" if re.match(r"logger=[\w]+(,[\w]+)+$", text) else text for text in overrides]
    return [f"++{text}" if re.match(r"[\w.]+=\s*\{", text) else text for text in listed]


def launch(asked: Request, task: Callable[[DictConfig], Any]) -> list[Any]:
    """Run a task once for each job of a sweep with Hydra's launcher, and return what each came to.

    Args:
        task: called with a job's composed config; Hydra has made the job's folder.
    """
    with _hydra():
        hydra = _loaded()
        overrides = [f"hydra.sweep.dir={_quoted(str(asked.folder))}"]
        overrides += [o for o in asked.hydra.hydra.overrides.hydra if not o.startswith("hydra.sweep.dir=")]
        config = hydra.compose_config("config", overrides, RunMode.MULTIRUN, from_shell=False)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
            task_function=task,
            config=config,
        )
        returns = launcher.launch([_without_hydra(job.overrides) for job in asked.jobs], 0)
        return [job.return_value for job in returns]


def to_config(composed: DictConfig) -> Config:
    """The checked config of a composed one.

    Raises:
        ValueError: a value that is missing, or not accepted.
    """
    try:
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        plain = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(_first_line(error)) from None
    assert isinstance(plain, dict)
    # Those of this dataset are among the overrides by now: what a run's config says is what it did.
    plain["augment"].pop("exceptions", None)
    return schema.from_dict({str(key): value for key, value in plain.items()})


def _job(overrides: Sequence[str], parsed: Sequence[Override]) -> Job:
    composed = _compose(overrides, parsed)
    if composed.get("recipe"):
        recipe = [str(text) for text in composed.model.get("recipe") or []]
        if not recipe:
            raise ValueError(f"recipe=true, but model={composed.model.name} has no recipe in its yaml")
        # In front, so that what the command says wins.
        overrides = [*recipe, *overrides]
        composed = _compose(overrides, [*_parse(recipe), *parsed])
    exceptions = _exceptions(composed)
    if exceptions:
        overrides = [*exceptions, *overrides]
        composed = _compose(overrides, [*_parse(exceptions), *parsed])
    return Job(list(overrides), to_config(composed))


def _exceptions(composed: DictConfig) -> list[str]:
    """What the augmentation preset says of this dataset in particular, as overrides."""
    return [
        f"augment.{key}={value}"
        for exception in composed.augment.get("exceptions") or []
        if composed.data.name in exception.data
        for key, value in exception.items()
        if key != "data"
    ]


def _compose(overrides: Sequence[str], parsed: Sequence[Override], *, sweeps: bool = False) -> DictConfig:
    hydra = _loaded()
    try:
        return hydra.compose_config(
            "config", list(overrides), RunMode.RUN, from_shell=False, validate_sweep_overrides=not sweeps
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explained(parsed) or _first_line(error)) from None


def _parse(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ValueError(f"{text!r} is not an override: accepted is KEY=VALUE, such as model=mlp")
    hydra = _loaded()
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            raise ValueError(f"{text!r} cannot be read as KEY=VALUE: {_first_line(error)}") from None
    return parsed


def _explained(parsed: Sequence[Override]) -> str | None:
    """The first override that names a group, a choice or a key that does not exist, and what it may have meant."""
    choices = groups()
    valid = []
    for o in parsed:
        key = o.key_or_group
        if o.is_hydra_override() or o.is_delete() or key not in choices:
            continue
        wanted = _wanted(o)
        for name in wanted:
            if name not in choices[key] and name != "None":
                return unknown(key, name, choices[key])
        valid.append(f"{key}={wanted[0] if wanted and wanted[0] != 'None' else 'null'}")
    hydra = _loaded()
    try:
        composed = hydra.compose_config("config", valid, RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException):
        return None
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    keys = _flat({key: value for key, value in plain.items() if key != "hydra"})
    for o in parsed:
        key = o.key_or_group
        if not o.is_hydra_override() and not o.is_add() and key not in choices and key not in keys:
            return _unknown_key(key, keys, list(choices))
    return None


def _wanted(o: Override) -> list[str]:
    """The names that an override of a group gives: one, those of a sweep, or those of a list."""
    if o.is_sweep_override():
        return [str(value) for value in o.sweep_string_iterator()]
    value = o.value()
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _unknown_key(key: str, keys: list[str], group_names: list[str]) -> str:
    """What a key that does not exist may have meant: within its section, else a section, else a leaf's full name."""
    section, dot, leaf = key.partition(".")
    if dot and section in group_names:
        inside = [k.partition(".")[2] for k in keys if k.startswith(f"{section}.")]
        return unknown(f"key in {section}", leaf, inside)
    full = next((k for k in keys if "." in k and k.rpartition(".")[2] == key), None)
    if full:
        return f"unknown key {key!r}. Did you mean {full!r}?"
    near = nearest(key, keys) if dot else None
    if near:
        return f"unknown key {key!r}. Did you mean {near!r}?"
    return unknown("key", key, {*group_names, *(k for k in keys if "." not in k)})


def _flat(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [prefix]
    inner = [name for key, v in value.items() for name in _flat(v, f"{prefix}.{key}" if prefix else str(key))]
    return [*inner, prefix] if prefix else inner


def _without_hydra(overrides: Sequence[str]) -> list[str]:
    return [
        o.input_line or ""
        for o in OverridesParser.create().parse_overrides(list(overrides))
        if not o.is_hydra_override()
    ]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
