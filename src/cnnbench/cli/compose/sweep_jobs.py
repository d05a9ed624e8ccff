"""The jobs of a sweep: the keys that hold for all of them, and the config of each."""

import copy
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.cli.choices import list_groups
from cnnbench.cli.compose.quoting import SeveralValues, refuse_several_values
from cnnbench.cli.compose.session import parse_overrides
from cnnbench.cli.compose.single import Job, compose_with_recipe, to_config
from cnnbench.config.keys import format_value, list_control_keys
from cnnbench.config.schema import SweepConfig, from_dict


def compose_sweep(base: DictConfig, parsed: Sequence[Override], sweep: SweepConfig) -> tuple[list[Job], list[str]]:
    """Compose and check every job; also return the keys that the sweep varies, in the order given."""
    hydra_overrides = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    tasks = _list_tasks(base, parsed, sweep)
    jobs = [job for task in tasks for job in _compose_jobs(hydra_overrides, task)]
    last = {o.get_key_element(): o for task in tasks for o in task}
    return jobs, [key.lstrip("+") for key, o in last.items() if o.is_sweep_override()]


def read_sweep(base: DictConfig, parsed: Sequence[Override]) -> SweepConfig:
    """The `sweep` section of a composed command.

    Raises:
        ValueError: a value that is not accepted, or keys that exclude each other.
    """
    of_sweep = [o for o in parsed if o.key_or_group.startswith("sweep.")]
    try:
        refuse_several_values(of_sweep, "give one for the whole sweep")
    except SeveralValues as error:
        raise ValueError(str(error)) from None  # a sweep cannot have several either, so nothing may suggest one
    plain = OmegaConf.to_container(base.sweep, resolve=True)
    sweep = from_dict({"sweep": plain}).sweep
    given = {o.key_or_group: o.input_line for o in reversed(parsed)}
    if several := given.get("seeds"):
        raise ValueError(
            f"{several}: seeds is a group of keys, such as seeds.init; sweep.seeds=N runs each config with N seeds"
        )
    own = next((f"seeds.{name}" for name, value in base.seeds.items() if value is not None), None)
    if sweep.until and (other := given.get("seed") or given.get("sweep.seeds") or own):
        raise ValueError(
            f"sweep.until={sweep.until} takes the seeds 0, 1, 2, … by itself: leave {other} out; sweep.max_seeds=N "
            "limits their number"
        )
    if sweep.until is None and (alone := given.get("sweep.delta") or given.get("sweep.max_seeds")):
        raise ValueError(f"{alone} is for sweep.until=decided: add that, or leave it out")
    if sweep.folds is not None:
        # Bets need independent pairs, and shares of the variance runs on the same test images.
        others = {"sweep.until": sweep.until, "sweep.alone": sweep.alone}
        others |= {f"data.{key}": base.data.get(key) for key in ("folds", "fold")}
        found = [f"{key}={format_value(value)}" for key, value in others.items() if value]
        # A list of values, such as data.fold=1,2, is not in the base config.
        if found := found + [line for key in ("data.folds", "data.fold") if (line := given.get(key))]:
            raise ValueError(f"sweep.folds={sweep.folds} cannot be combined with {found[0]}: leave one of them out")
    named = [given[key] for key in ("seed", *(f"seeds.{source}" for source in sweep.alone)) if key in given]
    if sweep.seeds is not None and named:
        raise ValueError(f"sweep.seeds={sweep.seeds} and {named[0]} both name seeds: leave one of them out")
    if sweep.seeds is None and sweep.alone:
        raise ValueError(f"sweep.alone={format_value(sweep.alone)} needs a number of seeds: add sweep.seeds=N")
    return sweep


def _list_tasks(base: DictConfig, parsed: Sequence[Override], sweep: SweepConfig) -> list[list[Override]]:
    """The overrides that produce the jobs: the experiment's axes, the command's own, the sweep's seeds and its folds.

    The jobs of `sweep.alone` come as a task for each source of randomness, besides that which varies all together.
    """
    params = [f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()]
    apart = {f"sweep.{name}" for name in list_control_keys(SweepConfig)}
    own = [str(o.input_line) for o in parsed if not o.is_hydra_override() and o.key_or_group not in apart]
    folds = [f"data.folds={sweep.folds}", f"data.fold=range(1,{sweep.folds + 1})"] if sweep.folds else []
    if sweep.most_seeds is None:
        return [parse_overrides([*params, *own, *folds])]
    values = f"range(0,{sweep.most_seeds})" if sweep.most_seeds > 1 else "0"
    params = [text for text in params if not text.startswith("seed=")]  # sweep.seeds replaces those of an experiment
    keys = ["seed", *(f"seeds.{source}" for source in sweep.alone)]
    return [parse_overrides([*params, *own, f"{key}={values}", *folds]) for key in keys]


def _compose_jobs(hydra_overrides: Sequence[str], task: Sequence[Override]) -> list[Job]:
    """Compose every combination of a sweep's values."""
    # Jobs that differ only in plain values, such as the seed, share one composition: Hydra takes 0.1 s for each.
    plain = _find_plain_axes(task)
    known: dict[tuple[str, ...], tuple[list[str], DictConfig]] = {}
    values: dict[str, Override] = {}
    jobs = []
    for one in BasicSweeper.split_arguments(list(task), max_batch_size=None)[0]:
        fixed = tuple(text for text in one if text.partition("=")[0] not in plain)
        if fixed not in known:
            added, composed = compose_with_recipe([*hydra_overrides, *fixed], parse_overrides(fixed))
            del composed.hydra
            known[fixed] = added, composed
        added, composed = known[fixed][0], copy.deepcopy(known[fixed][1])  # the update below changes it
        for text in one:
            if text.partition("=")[0] in plain:
                values[text] = values.get(text) or parse_overrides([text])[0]
                try:
                    OmegaConf.update(composed, values[text].key_or_group, values[text].value(), merge=True)
                except OmegaConfBaseException:
                    # Hydra refuses such a key too, and its error is explained to the user.
                    compose_with_recipe([*hydra_overrides, *one], parse_overrides(one))
                    raise
        jobs.append(Job([*added, *hydra_overrides, *one], to_config(composed)))
    return jobs


def _find_plain_axes(task: Sequence[Override]) -> set[str]:
    """The axes that change a single value each, so that they can be applied after composition, in any order."""
    not_plain = {*list_groups(), "recipe"}
    keys = [f"{o.key_or_group}." for o in task]
    plain = set()
    for o in task:
        key = f"{o.key_or_group}."
        overlapping = [other for other in keys if other.startswith(key) or key.startswith(other)]  # itself among them
        has_sign = o.is_add() or o.is_force_add() or o.is_delete()
        if o.is_sweep_override() and not has_sign and o.key_or_group not in not_plain and len(overlapping) == 1:
            plain.add(o.key_or_group)
    return plain
