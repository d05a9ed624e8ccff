"""Compose overrides into checked configs with Hydra: one for a run, or one for each job of a sweep.

`quoting` makes Hydra read text as the user wrote it, `experiments` offers the user's own files, and `session` starts
Hydra and parses. `single` composes one config, `sweep_jobs` those of a sweep; `unknown_keys` explains what they refuse.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnbench.cli.compose.experiments import register_experiments, restore_names, split_by_experiment
from cnnbench.cli.compose.quoting import hint_at_several_runs, quote_text, refuse_several_values
from cnnbench.cli.compose.session import NO_LAUNCHER, find_launcher, parse_overrides, start_hydra
from cnnbench.cli.compose.single import Job, compose_job, compose_unchecked
from cnnbench.cli.compose.sweep_jobs import compose_sweep, read_sweep
from cnnbench.config.schema import Config, SweepConfig
from cnnbench.storage.text import format_path

__all__ = ["Job", "Request", "compose_config", "compose_request"]


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
        launcher: the launcher of Hydra's that runs the jobs; by default the command runs them itself.
        overrides: those of the command, as typed.
    """

    jobs: list[Job]
    folder: Path
    axes: list[str]
    is_sweep: bool
    hydra: DictConfig
    new_folder: bool = True
    grows: bool = False
    sweep: SweepConfig = field(default_factory=SweepConfig)
    launcher: str = NO_LAUNCHER
    overrides: Sequence[str] = ()


def compose_request(overrides: Sequence[str], *, multirun: bool = False) -> Request:
    """Compose and check every job that a command asks for, before anything starts.

    Raises:
        ValueError: a key, name, type or value that is not accepted; several values without `-m`; a launcher that is
            not installed.
    """
    launcher = find_launcher(overrides)
    with register_experiments(overrides) as (known, named), start_hydra():
        request = _compose_request(known, multirun)
        request.launcher, request.overrides = launcher, overrides
        for job in request.jobs:
            job.overrides = [restore_names(text, named) for text in job.overrides]
        return request


def compose_config(overrides: Sequence[str]) -> Config:
    """Compose and check the config of a single run.

    Raises:
        ValueError: as in `compose_request`, or the overrides request a sweep.
    """
    with register_experiments(overrides) as (known, _), start_hydra():
        overrides = quote_text(known)
        parsed = parse_overrides(overrides)
        refuse_several_values(parsed, "give one")
        return compose_job(overrides, parsed).config


def _compose_request(given: Sequence[str], multirun: bool) -> Request:
    overrides = quote_text(given)
    parsed = parse_overrides(overrides)
    base = compose_unchecked(overrides, parsed, sweeps=True)
    sweep = read_sweep(base, parsed)
    is_sweep = multirun or sweep.is_repeated or str(base.hydra.mode).endswith("MULTIRUN")
    # Only now is it known whether a comma in text separates values, because an experiment may be a sweep itself.
    if is_sweep and (varied := quote_text(given, sweeping=True)) != overrides:
        overrides, parsed = varied, parse_overrides(varied)
        base = compose_unchecked(overrides, parsed, sweeps=True)
    if not is_sweep:
        refuse_several_values(parsed, "add -m to run each of them")
        for o in parsed:
            if o.key_or_group.startswith("sweep."):
                raise ValueError(f"{o.input_line} is for sweeps: add -m or sweep.seeds=N")
        with hint_at_several_runs(given):
            folder = _check_folder(base.hydra.run.dir)
            return Request([compose_job(overrides, parsed, base)], folder, axes=[], is_sweep=False, hydra=base)
    # Whether the folder's name is random, which is the default, shows only before interpolations are resolved.
    pattern: Any = OmegaConf.to_container(base.hydra.sweep, resolve=False)
    if OmegaConf.is_interpolation(base, "name"):
        base.name = "sweep"  # the default names one model and one dataset, and a sweep may have several
    folder = _check_folder(base.hydra.sweep.dir)
    if each := split_by_experiment(given, parsed):
        # An experiment's own sweep is known only once it is composed.
        experiments = [_compose_request(one, True) for one in each]
        jobs = [job for experiment in experiments for job in experiment.jobs]
        axes = list(dict.fromkeys(["experiment", *(axis for experiment in experiments for axis in experiment.axes)]))
    else:
        jobs, axes = compose_sweep(base, parsed, sweep)
    if sweep.until:
        jobs.sort(key=lambda job: job.config.seed)  # all configs with one seed, then with the next one
    is_new = "${run_id:}" in pattern["dir"]
    return Request(jobs, folder, axes, is_sweep=True, hydra=base, new_folder=is_new, sweep=sweep)


def _check_folder(name: str) -> Path:
    """Refuse the folder of a run or a sweep that is not UTF-8: the files of a run could not record it."""
    whole = os.path.abspath(name)
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{format_path(whole)}: the path must be UTF-8, as the files of a run are") from None
    return Path(name)
