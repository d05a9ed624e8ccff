"""What may change when a run goes on, and what a checkpoint must agree with."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from cnnbench.config.key_types import OPTIONAL_TEXT, TEXT, kind_of, text_of
from cnnbench.config.schema import Config, from_dict, to_dict
from cnnbench.registry import nearest
from cnnbench.training.optim import build_schedule

# Where and how it runs, and how long. All else would make another run of it.
HARMLESS = (
    "trainer.epochs",
    "trainer.device",
    "trainer.compile",
    "trainer.checkpoint_minutes",
    "trainer.keep",
    "trainer.timeout_minutes",
    "data.root",
    "data.path",
    "data.test_path",
    "data.download",
    "data.workers",
    "data.memory_limit",
    "data.cache",
)
UNTRAINED = ("name", "tags", "resume", "recipe", "preview", "logger", "comparison")  # the weights know nothing of them
SPREAD = 100  # steps an epoch at which two schedules are compared


def fingerprint(config: Config) -> dict[str, Any]:
    """All of a config that its weights depend on, as plain data; a run resumes only from checkpoints that agree."""
    plain = {key: value for key, value in to_dict(config).items() if key not in UNTRAINED}
    return {
        section: {key: v for key, v in value.items() if f"{section}.{key}" not in HARMLESS}
        if isinstance(value, dict)
        else value
        for section, value in plain.items()
    }


def resumed(plain: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """A run's own config, changed by overrides that leave it the same run.

    Args:
        plain: the run's `config.yaml`.
        overrides: `KEY=VALUE`; text as it stands, other values in YAML.

    Raises:
        ValueError: a key or a value that would make another run of it; the message says why.
    """
    own = from_dict(plain)
    changed = to_dict(own)
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, name = key.partition(".")
        if not equals or key not in HARMLESS:
            near = nearest(key, HARMLESS)
            raise ValueError(
                f"{text}: a run goes on with its own config, or its result would be that of no config. Accepted with "
                f"resume: {', '.join(HARMLESS)}.{f' Did you mean {near}?' if near else ''}"
            )
        if name not in changed[section]:
            raise ValueError(f"{text}: {section}={changed[section]['name']} has no {key}")
        changed[section][name] = _value(key, value)
    config = from_dict(changed)
    _check_epochs(own, config)
    return config


def _value(key: str, value: str) -> Any:
    """Text as it stands, other values in YAML."""
    kind = kind_of(key)
    if kind == TEXT or (kind == OPTIONAL_TEXT and value != "null"):
        return text_of(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"{key}={value}: the value cannot be read") from None


def _check_epochs(own: Config, config: Config) -> None:
    before, epochs = own.trainer.epochs, config.trainer.epochs
    if epochs < before:
        raise ValueError(f"trainer.epochs={epochs}: accepted with resume is {before}, the run's own, or more")
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
            f"trainer.epochs={epochs}: scheduler={own.scheduler.name} is laid out over all epochs, and the learning "
            f"rates of this run are those of trainer.epochs={before}; accepted with resume is {before}"
        )
