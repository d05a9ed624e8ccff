"""Compose one config: the overrides, the recipe of its model, and its augmentation preset's exceptions for its data."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.cli.compose.session import get_hydra, parse_overrides
from cnnbench.cli.compose.unknown_keys import check_signs, explain_failure
from cnnbench.config.declared import check_part_options
from cnnbench.config.keys import list_control_keys
from cnnbench.config.schema import Config, SweepConfig, from_dict
from cnnbench.plugins.records import record_plugins, refuse_from_files
from cnnbench.runs.starting_weights import pin_weights
from cnnbench.storage.text import get_first_line


@dataclass
class Job:
    """A requested run, and the overrides that produce its config, in Hydra's syntax."""

    overrides: list[str]
    config: Config


def compose_job(overrides: Sequence[str], parsed: Sequence[Override], composed: DictConfig | None = None) -> Job:
    """Compose and check a run; for `composed`, see `compose_with_recipe`."""
    added, composed = compose_with_recipe(overrides, parsed, composed)
    return Job([*added, *overrides], to_config(composed))


def compose_with_recipe(
    overrides: Sequence[str], parsed: Sequence[Override], composed: DictConfig | None = None
) -> tuple[list[str], DictConfig]:
    """Compose a run; also return the overrides that its recipe and its augmentation preset add in front.

    Args:
        composed: the config without these additions, if it is known.
    """
    composed = composed or compose_unchecked(overrides, parsed)
    if added := _find_recipe(composed):
        # In front, so that the command's own overrides win.
        composed = compose_unchecked([*added, *overrides], [*parse_overrides(added), *parsed])
    if exceptions := _find_exceptions(composed):
        added = [*exceptions, *added]
        composed = compose_unchecked([*added, *overrides], [*parse_overrides(added), *parsed])
    return added, composed


def compose_unchecked(overrides: Sequence[str], parsed: Sequence[Override], *, sweeps: bool = False) -> DictConfig:
    """Let Hydra compose overrides, and explain its errors.

    Args:
        sweeps: accept several values of a key, which are left out.
    """
    hydra = get_hydra()
    check_signs(parsed)
    try:
        return hydra.compose_config(
            "config", list(overrides), RunMode.RUN, from_shell=False, validate_sweep_overrides=not sweeps
        )
    except (HydraException, OmegaConfBaseException) as error:
        why = explain_failure(hydra, parsed)
        if why is None and (named := [o.input_line for o in parsed if "${" in str(o.input_line)]):
            why = f"{named[0]}: ${{KEY}} is replaced by the value of another key: {get_first_line(error)}"
        raise ValueError(why or get_first_line(error)) from None


def to_config(composed: DictConfig) -> Config:
    """Check a composed config.

    Raises:
        ValueError: a value is missing or not accepted, or there are no such `model.weights`.
    """
    try:
        if "hydra" in composed:  # some of its values are set only by Hydra's own programs
            composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        hint = " (${KEY} is replaced by the value of another key)" if "nterpolation" in str(error) else ""
        raise ValueError(f"{get_first_line(error)}{hint}") from None
    assert isinstance(plain, dict)
    plain["augment"].pop("exceptions", None)  # `compose_with_recipe` has turned those for this dataset into overrides
    root = plain["data"].get("root")
    if isinstance(root, str) and not os.path.lexists(root):  # a shell leaves `~` in CNNBENCH_DATA if it is quoted
        plain["data"]["root"] = os.path.expanduser(root)
    for name in list_control_keys(SweepConfig):
        del plain["sweep"][name]
    named = {str(key): value for key, value in plain.items()}
    refuse_from_files(named)
    config = from_dict(named | record_plugins(named))
    check_part_options(config)
    pin_weights(config)
    return config


def _find_recipe(composed: DictConfig) -> list[str]:
    """The recipe of a composed config's model, if `recipe=true`."""
    if not composed.get("recipe"):
        return []
    model, data = composed.model.name, composed.data.name
    recipe = [str(text) for text in composed.model.get("recipe") or []]
    if not recipe:
        raise ValueError(f"recipe=true, but the YAML file of model={model} has no recipe")
    made_for = [str(name) for name in composed.model.get("recipe_data") or []]
    if data not in made_for:
        raise ValueError(
            f"recipe=true: the recipe of model={model} was made for data={','.join(made_for)}; on data={data} it may "
            "do worse than the defaults. Leave recipe=true out and choose trainer.epochs and optimizer.lr by "
            f"validation, or apply the recipe anyway by writing it out: {' '.join(recipe)}"
        )
    return recipe


def _find_exceptions(composed: DictConfig) -> list[str]:
    """The overrides that a composed config's augmentation preset has for its dataset in particular."""
    return [
        f"augment.{key}={value}"
        for exception in composed.augment.get("exceptions") or []
        if composed.data.name in exception.data
        for key, value in exception.items()
        if key != "data"
    ]
