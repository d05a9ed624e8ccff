"""What a search does, as `tune.KEY=VALUE` on the command line or in a space's YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnbench.config.conversion import refuse_interpolation, section
from cnnbench.registry import unknown

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "hyperband", "none")


@dataclass
class TuneSettings:
    """A search."""

    space: dict[str, Any] = field(default_factory=dict)  # key of the config → distribution, as in `space.py`
    overrides: list[str] = field(default_factory=list)  # of every trial; the command's own go before them
    trials: int = 20  # finished, pruned and failed ones together
    timeout: float | None = None  # seconds after which no further trial starts
    workers: int = 1  # trials at a time, each in a process of its own; with more than one, one thread each
    seed: int = 0  # of the sampler; the trials' own is `seed`
    sampler: str = "tpe"
    pruner: str = "median"  # median: worse than half of the earlier trials at the same epoch
    startup_trials: int = 5  # the first so many are drawn at random, and median never prunes them
    warmup_epochs: int = 3  # no trial is pruned before it has trained so many


def settings_of(plain: Mapping[str, Any]) -> TuneSettings:
    """Checked settings from plain data.

    Raises:
        ValueError: an unknown key, a wrong type, or a value out of range; named as `tune.KEY`.
    """
    refuse_interpolation(plain, "tune")
    settings: TuneSettings = section(TuneSettings, "tune", plain)
    for key, least in (("trials", 1), ("workers", 1), ("startup_trials", 1), ("warmup_epochs", 1), ("seed", 0)):
        if getattr(settings, key) < least:
            raise ValueError(f"tune.{key}={getattr(settings, key)}: accepted is a whole number from {least}")
    if settings.workers > 256:
        raise ValueError(f"tune.workers={settings.workers}: accepted is a whole number from 1 to 256")
    if settings.timeout is not None and not settings.timeout > 0:
        raise ValueError(f"tune.timeout={settings.timeout}: accepted is null or a number of seconds above 0")
    for key, names in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if getattr(settings, key) not in names:
            raise ValueError(unknown(f"tune.{key}", getattr(settings, key), names))
    return settings
