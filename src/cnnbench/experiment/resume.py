"""Which keys may change when a run is resumed, and what its checkpoints must agree with."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench.config.declared import find_keys, select
from cnnbench.config.keys import may_change
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.config.text_values import read_value
from cnnbench.experiment.factories import make_schedule
from cnnbench.registry import find_nearest
from cnnbench.training.optim import Schedule

SPREAD = 100  # steps per epoch at which two schedules are compared


def compute_fingerprint(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that the weights depend on. A run resumes only from a checkpoint with the same.

    Args:
        plain: the config as plain data, perhaps a stranger's.
    """
    return select(plain, lambda role, field: role == "result" and not may_change(field))


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
    describe_longer_schedule(own, config)  # refuses epochs that would make it another run
    return config


def describe_longer_schedule(own: Config, config: Config) -> str:
    """Describe in a sentence what more epochs do to the schedule of a run; empty if it has as many as before.

    Args:
        own: the config of the run.
        config: the changed one.

    Raises:
        ValueError: fewer epochs, or a schedule that would have given the past epochs other learning rates. The run
            would then be neither what it was nor what a run of that many epochs is.
    """
    before, epochs = own.trainer.epochs, config.trainer.epochs
    if epochs < before:
        raise ValueError(f"trainer.epochs={epochs}: with resume it must be {before}, the run's own, or more")
    if epochs == before:
        return ""
    shorter, longer = (make_schedule(own.scheduler, length, SPREAD) for length in (before, epochs))

    def format_rate(schedule: Schedule, epoch: int) -> str:
        return f"{own.optimizer.lr * schedule(epoch * SPREAD - 1):.3g}"

    name, last = own.scheduler.name, format_rate(longer, before)
    if any(shorter(step) != longer(step) for step in range(before * SPREAD)):
        raise ValueError(
            f"trainer.epochs={epochs}: scheduler={name} spans all epochs, so that it cannot continue: this run's "
            f"learning rate after epoch {before} is {format_rate(shorter, before)}, and that of one of {epochs} epochs "
            f"is {last}. With resume it must be {before}; model.weights=RUN starts a new run from this one's weights"
        )
    end = format_rate(longer, epochs)
    course = f"stays at {end}" if last == end else f"goes from {last} to {end}"
    added = f"epoch {epochs}" if epochs == before + 1 else f"epochs {before + 1} to {epochs}"
    return (
        f"trainer.epochs={epochs} instead of {before}: scheduler={name} continues as if the run had begun with "
        f"{epochs} epochs; in {added}, its learning rate {course}"
    )
