"""Which keys may change when a run is resumed, and what its checkpoints must agree with."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench.config.declared import find_keys, select
from cnnbench.config.keys import may_change
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.config.text_values import read_value
from cnnbench.registry import find_nearest
from cnnbench.training.optim import build_schedule

SPREAD = 100  # steps per epoch at which two schedules are compared


def compute_fingerprint(config: Config) -> dict[str, Any]:
    """The part of a config that the weights depend on. A run resumes only from a checkpoint with the same."""
    return select(to_dict(config), lambda role, field: role == "result" and not may_change(field))


def apply_overrides(plain: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Apply overrides to a run's config, if they leave it the same run.

    Args:
        plain: the run's `config.yaml`.
        overrides: `KEY=VALUE`; the value of a text key as it is written, others in YAML.

    Raises:
        ValueError: a key or a value that would make it another run; the message says why.
    """
    own = from_dict(plain)
    changed = to_dict(own)
    keys = {name: key for name, key in find_keys(changed).items() if key.role != "result" or may_change(key.field)}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or name not in keys:
            near = find_nearest(name, keys)
            raise ValueError(
                f"{text}: a resumed run keeps every setting that its result depends on. Resume can change only: "
                f"{', '.join(keys)}.{f' Did you mean {near}?' if near else ''}"
            )
        *sections, last = name.split(".")
        place = changed
        for section in sections:
            place = place[section]
        try:
            place[last] = read_value(keys[name].field, value)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
    config = from_dict(changed)
    _check_epochs(own, config)
    return config


def _check_epochs(own: Config, config: Config) -> None:
    """Check a new number of epochs: the run stays the same only if the schedule of its past epochs does."""
    before, epochs = own.trainer.epochs, config.trainer.epochs
    if epochs < before:
        raise ValueError(f"trainer.epochs={epochs}: with resume it must be {before}, the run's own, or more")
    schedules = [
        build_schedule(
            own.scheduler.name,
            epochs=length,
            steps_per_epoch=SPREAD,
            warmup_epochs=own.scheduler.warmup_epochs,
            options=own.scheduler.options,
        )
        for length in (before, epochs)
    ]
    if any(schedules[0](step) != schedules[1](step) for step in range(before * SPREAD)):
        raise ValueError(
            f"trainer.epochs={epochs}: scheduler={own.scheduler.name} spans all epochs, and this run has used the "
            f"learning rates of trainer.epochs={before}; with resume it must be {before}"
        )
