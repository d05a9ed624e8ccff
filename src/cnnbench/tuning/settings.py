"""What a search does, as `tune.KEY=VALUE` on the command line or in a space's YAML file."""

from collections.abc import Mapping
from typing import Any, Literal

from cnnbench.config.keys import Section, key
from cnnbench.config.schema import refuse_interpolation


class TuneSettings(Section):
    """A search."""

    space: dict[str, Any] = key("Which keys vary, and over what: KEY: {type: float, low: 0, high: 1}", {})
    overrides: list[str] = key("Overrides of every trial; the command's own win", [])
    trials: int = key("Trials in all: finished, pruned and failed ones together", 20, ge=1)
    timeout: float | None = key("Seconds after which no further trial starts", None, gt=0)
    workers: int = key(
        "Trials at a time, each in a process of its own; with more than one, each has one thread", 1, ge=1, le=256
    )
    seed: int = key("Seed of the sampler; the trials' own is `seed`", 0, ge=0)
    sampler: Literal["tpe", "random"] = key("How values are drawn", "tpe")
    pruner: Literal["median", "hyperband", "none"] = key(
        "Which trials stop early; median: those worse than half of the earlier trials at the same epoch", "median"
    )
    startup_trials: int = key("The first trials, drawn at random and never pruned by median", 5, ge=1)
    warmup_epochs: int = key("Epochs that every trial trains before it may be pruned", 3, ge=1)


def parse_settings(plain: Mapping[str, Any]) -> TuneSettings:
    """Checked settings from plain data.

    Raises:
        ValueError: an unknown key, a wrong type, or a value out of range; named as `tune.KEY`.
    """
    refuse_interpolation(plain, "tune")
    return TuneSettings.from_plain(plain, "tune")
