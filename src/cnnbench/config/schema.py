"""Every key of a config: its type, default (written only in this room), accepted values, meaning and role.

The YAML files in `configs/` choose names and override these defaults where a part needs it. A `PartSection` also
takes the options of its part (`optimizer.momentum`, `data.path` …), which are declared in the part's own file.
The sections stand in `model.py`, `data.py`, `trainer.py`, `seeds.py` and `sweep.py`.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from cnnbench.config.data import AugmentConfig, DataConfig
from cnnbench.config.keys import PartSection, Section, format_value, key, list_control_keys
from cnnbench.config.model import ModelConfig
from cnnbench.config.seeds import Seeds, SeedsConfig, read_seeds
from cnnbench.config.sweep import SweepConfig
from cnnbench.config.text_values import refuse_interpolation
from cnnbench.config.trainer import OptimizerConfig, SchedulerConfig, TrainerConfig
from cnnbench.config.value_types import NOT_IN_NAMES, Name, Seed


class LoggerConfig(PartSection):
    """The trackers that follow a run, by name, with their options."""


class ComparisonConfig(Section):
    """What the report of a sweep compares its groups with."""

    baseline: str | None = key("The group that others are compared with, such as model=mlp; null: the first", None)
    reference: dict[str, Any] = key("Published figures: a group's accuracy and f1_macro", {})
    protocol: dict[str, Any] = key("The settings that the published figures were measured under", {})


class Config(Section):
    """One run. The role of a section applies to all its keys, unless it is `result`: then each key has its own role."""

    seed: Seed = key("Seed of all randomness that seeds does not set apart", 0)
    seeds: SeedsConfig = key("The seeds of single sources of randomness", SeedsConfig())
    name: Name = key(
        "The folder of outputs/ that the run goes to",
        "run",
        role="record",
        accepted=f"text of letters, digits, spaces and signs other than {' '.join(NOT_IN_NAMES)}, up to 200 bytes, "
        "without a dot or space at either end",
    )
    tags: list[str] = key("Words for finding the run", [], role="record")
    resume: str | None = key("The folder of a run or sweep to continue", None, role="control")
    recipe: bool = key("Apply model.recipe; the command's own overrides take precedence", False, role="control")
    plugins: list[str] = key(
        "Your own parts: Python files, folders with __init__.py, or installed modules that register them",
        [],
        role="place",
    )
    plugin_sha256: dict[str, str] = key(
        "Recorded, never given: the SHA-256 of the code of each plug-in that the run uses", {}
    )
    preview: bool = key("Draw training images and their augmented versions, and stop", False, role="control")
    model: ModelConfig = key("The network", ModelConfig())
    data: DataConfig = key("The images", DataConfig())
    augment: AugmentConfig = key("Random augmentation of the training images", AugmentConfig())
    optimizer: OptimizerConfig = key("The optimizer", OptimizerConfig())
    scheduler: SchedulerConfig = key("The schedule of the learning rate", SchedulerConfig())
    trainer: TrainerConfig = key("How long, how, and on which device to train", TrainerConfig())
    logger: LoggerConfig = key("The trackers of the run, with their options", LoggerConfig(), role="record")
    comparison: ComparisonConfig = key(
        "What the report of a sweep compares its groups with", ComparisonConfig(), role="record"
    )
    sweep: SweepConfig = key("Settings of a sweep as a whole", SweepConfig())

    @property
    def all_seeds(self) -> Seeds:
        """The seed of each source of randomness."""
        return read_seeds(self.model_dump(include={"seed", "seeds"}))

    @model_validator(mode="after")
    def _check_sections_together(self) -> Self:
        warmup, trainer = self.scheduler.warmup_epochs, self.trainer
        if warmup > trainer.epochs:
            raise ValueError(
                f"scheduler.warmup_epochs={format_value(warmup)}: must be a number from 0 to trainer.epochs="
                f"{trainer.epochs}"
            )
        if trainer.patience is not None and self.data.val_fraction == 0:
            raise ValueError(
                f"trainer.patience={trainer.patience} needs a validation split, but data.val_fraction=0: "
                "early stopping never looks at the test set"
            )
        return self


def make_default_dict() -> dict[str, Any]:
    """Every key with its default, as plain data. Hydra merges the YAML files into it."""
    return Config().model_dump()


def from_dict(plain: Mapping[str, Any]) -> Config:
    """A checked `Config` from plain data, such as a composed config or a run folder's `config.yaml`.

    Raises:
        ValueError: an unknown key, a wrong type, a value out of range, or an interpolation (`${…}`): a config
            that comes from a file is data, and is never evaluated.
    """
    refuse_interpolation(plain, "")
    return Config.from_plain(plain, "")


def to_dict(config: Config) -> dict[str, Any]:
    """Plain data for `config.yaml`: all keys except those that only control the command (`resume`, `preview` …)."""
    control: dict[str, Any] = dict.fromkeys(list_control_keys(Config), True)
    plain = config.model_dump(exclude=control | {"sweep": list_control_keys(SweepConfig)})
    # A run without plug-ins has the config, and so the hash, of a version without them.
    return {name: value for name, value in plain.items() if value or name not in ("plugins", "plugin_sha256")}
