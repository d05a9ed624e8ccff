"""Compose overrides into checked configs with Hydra: one for a run, or one for each job of a sweep."""

import copy
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.cli.choices import list_groups
from cnnbench.cli.experiments import register_experiments, restore_names, split_by_experiment
from cnnbench.cli.hydra_session import get_hydra, parse_overrides, start_hydra
from cnnbench.cli.literal import SeveralValues, describe_values, hint_at_several_runs, quote_text
from cnnbench.cli.recipes import find_exceptions, find_recipe
from cnnbench.cli.sweep_keys import read_sweep
from cnnbench.cli.unknown_keys import check_signs, explain_failure
from cnnbench.config import schema as schema
from cnnbench.config.declared import check_part_options
from cnnbench.config.keys import list_control_keys
from cnnbench.config.schema import Config
from cnnbench.plugins.records import record_plugins, refuse_from_files
from cnnbench.runs.starting_weights import pin_weights
from cnnbench.storage.text import format_path, get_first_line

OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
ConfigStore.instance().store(name="defaults", node=schema.make_default_dict(), provider="cnnbench")


@dataclass
class Job:
    """A requested run, and the overrides that produce its config, in Hydra's syntax."""

    overrides: list[str]
    config: Config


@dataclass
class Request:
    """What a command line asks for.

    Attributes:
        folder: the folder of the run or the sweep.
        axes: the keys that a sweep varies, in the order given.
        is_sweep: whether each job has its own folder inside `folder`.
        new_folder: whether the name of `folder` was generated for this call.
        grows: whether the folder may also hold other jobs, which are left alone.
        sweep: the settings of the sweep as a whole.
    """

    jobs: list[Job]
    folder: Path
    axes: list[str]
    is_sweep: bool
    hydra: DictConfig
    new_folder: bool = True
    grows: bool = False
    sweep: schema.SweepConfig = field(default_factory=schema.SweepConfig)


def compose_request(overrides: Sequence[str], *, multirun: bool = False) -> Request:
    """Compose and check every job that a command asks for, before anything starts.

    Raises:
        ValueError: a key, name, type or value that is not accepted; several values without `-m`.
    """
    with register_experiments(overrides) as (known, named), start_hydra():
        request = _compose_request(known, multirun)
        for job in request.jobs:
            job.overrides = [restore_names(text, named) for text in job.overrides]
        return request


def _compose_request(given: Sequence[str], multirun: bool) -> Request:
    overrides = quote_text(given)
    parsed = parse_overrides(overrides)
    base = _compose(overrides, parsed, sweeps=True)
    sweep = read_sweep(base, parsed)
    is_sweep = multirun or sweep.is_repeated or str(base.hydra.mode).endswith("MULTIRUN")
    # Only now is it known whether a comma in text separates values, because an experiment may be a sweep itself.
    if is_sweep and (varied := quote_text(given, sweeping=True)) != overrides:
        overrides, parsed = varied, parse_overrides(varied)
        base = _compose(overrides, parsed, sweeps=True)
    several = [o for o in parsed if o.is_sweep_override()]
    if several and not is_sweep:
        raise SeveralValues(several[0])
    if not is_sweep:
        if only := [o for o in parsed if o.key_or_group.startswith("sweep.")]:
            raise ValueError(f"{only[0].input_line} is for sweeps: add -m or sweep.seeds=N")
        with hint_at_several_runs(given):
            folder = _check_folder(base.hydra.run.dir)
            return Request(
                jobs=[_compose_job(overrides, parsed, base)], folder=folder, axes=[], is_sweep=False, hydra=base
            )
    new_folder = _has_new_folder(base)
    if OmegaConf.is_interpolation(base, "name"):
        base.name = "sweep"  # the default names one model and one dataset, and a sweep may have several
    folder = _check_folder(base.hydra.sweep.dir)
    if each := split_by_experiment(given, parsed):
        # An experiment's own sweep is known only once it is composed.
        experiments = [_compose_request(one, True) for one in each]
        jobs = [job for experiment in experiments for job in experiment.jobs]
        axes = list(dict.fromkeys(["experiment", *(axis for experiment in experiments for axis in experiment.axes)]))
    else:
        hydra_overrides = [str(o.input_line) for o in parsed if o.is_hydra_override()]
        tasks = _list_tasks(base, parsed, sweep)
        jobs = [job for task in tasks for job in _compose_jobs(hydra_overrides, task)]
        last = {o.get_key_element(): o for task in tasks for o in task}
        axes = [key.lstrip("+") for key, o in last.items() if o.is_sweep_override()]
    if sweep.until:
        jobs.sort(key=lambda job: job.config.seed)  # all configs with one seed, then with the next one
    return Request(
        jobs=jobs,
        folder=folder,
        axes=axes,
        is_sweep=True,
        hydra=base,
        new_folder=new_folder,
        sweep=sweep,
    )


def _has_new_folder(base: DictConfig) -> bool:
    """Whether the sweep's folder has a random name, which is the default, and not one that the command gives.

    This is visible only in the unresolved pattern.
    """
    sweep: Any = OmegaConf.to_container(base.hydra.sweep, resolve=False)
    return "${run_id:}" in str(sweep["dir"])


def _check_folder(said: str) -> Path:
    """Check the folder of a run or a sweep.

    Raises:
        ValueError: the path is not UTF-8, so the files of a run could not record it.
    """
    whole = os.path.abspath(said)
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{format_path(whole)}: the path must be UTF-8, as the files of a run are") from None
    return Path(said)


def _list_tasks(base: DictConfig, parsed: Sequence[Override], sweep: schema.SweepConfig) -> list[list[Override]]:
    """The overrides that produce the jobs: the experiment's axes, the command's own, the sweep's seeds and its folds.

    The jobs of `sweep.alone` come as a task for each source of randomness, besides that which varies all together.
    """
    params = [f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()]
    apart = {f"sweep.{name}" for name in list_control_keys(schema.SweepConfig)}
    own = [str(o.input_line) for o in parsed if not o.is_hydra_override() and o.key_or_group not in apart]
    folds = [f"data.folds={sweep.folds}", f"data.fold=range(1,{sweep.folds + 1})"] if sweep.folds else []
    if sweep.most_seeds is None:
        return [parse_overrides([*params, *own, *folds])]
    values = f"range(0,{sweep.most_seeds})" if sweep.most_seeds > 1 else "0"
    params = [text for text in params if not text.startswith("seed=")]
    keys = ["seed", *(f"seeds.{source}" for source in sweep.alone)]
    return [parse_overrides([*params, *own, f"{key}={values}", *folds]) for key in keys]


def compose_config(overrides: Sequence[str]) -> Config:
    """Compose and check the config of a single run.

    Raises:
        ValueError: as in `compose_request`, or the overrides request a sweep.
    """
    with register_experiments(overrides) as (known, _), start_hydra():
        overrides = quote_text(known)
        parsed = parse_overrides(overrides)
        for o in parsed:
            if o.is_sweep_override():
                raise ValueError(f"{describe_values(o)}: give one")
        return _compose_job(overrides, parsed).config


def to_config(composed: DictConfig) -> Config:
    """Check a composed config.

    Raises:
        ValueError: a value is missing or not accepted, or there are no such `model.weights`.
    """
    try:
        if "hydra" in composed:
            composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        hint = " (${KEY} stands for the value of another key)" if "nterpolation" in str(error) else ""
        raise ValueError(f"{get_first_line(error)}{hint}") from None
    assert isinstance(plain, dict)
    # `_compose_with_recipe` has turned the exceptions for this dataset into overrides.
    plain["augment"].pop("exceptions", None)
    root = plain["data"].get("root")
    if isinstance(root, str) and not os.path.lexists(root):  # a shell leaves `~` in CNNBENCH_DATA if it is quoted
        plain["data"]["root"] = os.path.expanduser(root)
    for name in list_control_keys(schema.SweepConfig):
        del plain["sweep"][name]
    named = {str(key): value for key, value in plain.items()}
    refuse_from_files(named)
    config = schema.from_dict(named | record_plugins(named))
    check_part_options(config)
    pin_weights(config)
    return config


def _compose_job(overrides: Sequence[str], parsed: Sequence[Override], composed: DictConfig | None = None) -> Job:
    added, composed = _compose_with_recipe(overrides, parsed, composed)
    return Job([*added, *overrides], to_config(composed))


def _compose_jobs(hydra_overrides: Sequence[str], task: Sequence[Override]) -> list[Job]:
    """Compose every combination of a sweep's values.

    Jobs that differ only in plain values, such as the seed, share one composition, because Hydra takes 0.1 s for each.
    """
    plain = _find_plain_axes(task)
    known: dict[tuple[str, ...], tuple[list[str], DictConfig]] = {}
    values: dict[str, Override] = {}
    jobs = []
    for one in BasicSweeper.split_arguments(list(task), max_batch_size=None)[0]:
        fixed = tuple(text for text in one if text.partition("=")[0] not in plain)
        if fixed not in known:
            added, composed = _compose_with_recipe([*hydra_overrides, *fixed], parse_overrides(fixed))
            del composed.hydra
            known[fixed] = added, composed
        added, composed = known[fixed][0], copy.deepcopy(known[fixed][1])
        for text in one:
            if text.partition("=")[0] in plain:
                values[text] = values.get(text) or parse_overrides([text])[0]
                try:
                    OmegaConf.update(composed, values[text].key_or_group, values[text].value(), merge=True)
                except OmegaConfBaseException:
                    # Hydra refuses such a key too, and its error is explained to the user.
                    _compose_with_recipe([*hydra_overrides, *one], parse_overrides(one))
                    raise
        jobs.append(Job([*added, *hydra_overrides, *one], to_config(composed)))
    return jobs


def _find_plain_axes(task: Sequence[Override]) -> set[str]:
    """The axes that change a single value each, so that they can be applied after composition, in any order."""
    choices = list_groups()
    keys = [o.key_or_group for o in task]
    return {
        o.key_or_group
        for o in task
        if o.is_sweep_override()
        and not (o.is_add() or o.is_force_add() or o.is_delete())
        and o.key_or_group not in choices
        and o.key_or_group != "recipe"
        and sum(_do_overlap(o.key_or_group, key) for key in keys) == 1
    }


def _do_overlap(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _compose_with_recipe(
    overrides: Sequence[str], parsed: Sequence[Override], composed: DictConfig | None = None
) -> tuple[list[str], DictConfig]:
    """Compose a job; also return the overrides that its recipe and its augmentation preset add in front.

    Args:
        composed: the config without these additions, if it is known.
    """
    composed = composed or _compose(overrides, parsed)
    if added := find_recipe(composed):
        # In front, so that the command's own overrides win.
        composed = _compose([*added, *overrides], [*parse_overrides(added), *parsed])
    if exceptions := find_exceptions(composed):
        added = [*exceptions, *added]
        composed = _compose([*added, *overrides], [*parse_overrides(added), *parsed])
    return added, composed


def _compose(overrides: Sequence[str], parsed: Sequence[Override], *, sweeps: bool = False) -> DictConfig:
    hydra = get_hydra()
    check_signs(parsed)
    try:
        return hydra.compose_config(
            "config", list(overrides), RunMode.RUN, from_shell=False, validate_sweep_overrides=not sweeps
        )
    except (HydraException, OmegaConfBaseException) as error:
        why = explain_failure(get_hydra(), parsed)
        if why is None and (named := [o.input_line for o in parsed if "${" in str(o.input_line)]):
            why = f"{named[0]}: ${{KEY}} stands for the value of another key: {get_first_line(error)}"
        raise ValueError(why or get_first_line(error)) from None
