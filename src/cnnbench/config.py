"""The typed configuration: what every key means, its default (written here once) and what it accepts.

The YAML files in `configs/` choose names and differ from these defaults where a part needs it. A section with an
`options` field also takes keys of its own part (`optimizer.momentum`, `scheduler.step_epochs` …), which the part's
signature types and checks.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnbench.registry import nearest
from cnnbench.typed import refuse_interpolation, section, typed

NORMALIZATIONS = ("half", "dataset", "none")
PRECISIONS = ("fp32", "bf16", "fp16")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLERS = ("uniform", "balanced")
MONITORS = ("val/loss", "val/accuracy", "val/f1_macro")
# The largest values of augment's keys. Shear beyond 60 degrees and crops beyond the image leave nothing to see.
AUGMENT_LIMITS = dict.fromkeys(("flip", "shift", "erase", "brightness", "contrast"), 1)
AUGMENT_LIMITS |= {"rotate": 180, "shear": 60, "crop": 1024, "mixup": 100, "cutmix": 100}


@dataclass
class ModelConfig:
    """Which network, and how large."""

    name: str = "lenet5"
    width: float = 1.0  # multiplies every hidden channel and unit count
    depth: int = 1  # multiplies the layers of every stage
    activation: str = "relu"
    dropout: float = 0.0  # after every hidden dense layer; where a network has none, before its last layer
    init: str = "default"  # how weights are drawn: default (torch's, and the course's), kaiming, xavier, normal
    init_std: float = 0.01  # of init=normal
    recipe: list[str] = field(default_factory=list)  # what recipe=true adds in front of the command's overrides
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """Which images, how they are split and scaled."""

    name: str = "digits"
    root: str = "data"  # where datasets are stored; configs/config.yaml sets it to $CNNBENCH_DATA if that is set
    download: bool = True  # fetch a torchvision dataset that is not there; never anything else
    val_fraction: float = 0.1  # of the training images, stratified; 0 = none; not where the data has its own split
    test_fraction: float = 0.2  # of all images, stratified; only where the data has no test split
    train_limit: int | None = None  # at most this many training images, stratified
    image_size: int | None = None  # resize to a square of this many pixels; null = as they are
    normalize: str = "half"
    class_weights: str = "none"  # balanced: in the training loss a class counts n / (K · n_c)
    sampler: str = "uniform"  # balanced: each class is drawn equally often, with replacement
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentConfig:
    """What training does to its images, each image by its own random parameters; nothing unless a key says so.

    A preset in `configs/augment/` sets these keys; what its `exceptions` say of a dataset comes before a command's own.
    """

    name: str = "none"  # the preset these keys came from
    flip: float = 0.0  # the share of images that are mirrored, left to right
    crop: int = 0  # pixels of black margin of which a random crop is taken: a shift by so many pixels at most
    rotate: float = 0.0  # degrees, at most, either way
    shift: float = 0.0  # of the side, at most, either way
    scale: list[float] = field(default_factory=lambda: [1.0, 1.0])  # the lowest and the highest factor of size
    shear: float = 0.0  # degrees, at most, either way
    erase: float = 0.0  # the share of images of which a box turns black
    erase_area: list[float] = field(default_factory=lambda: [0.02, 0.2])  # the least and the most of the image
    brightness: float = 0.0  # a factor of 1 ± this
    contrast: float = 0.0  # a factor of 1 ± this, about the image's mean
    mixup: float = 0.0  # alpha of the Beta distribution of an image's weight when it is mixed with another
    cutmix: float = 0.0  # alpha of the Beta distribution of the area an image keeps around a box of another


@dataclass
class OptimizerConfig:
    """How weights move."""

    name: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    decay_bias_and_norm: bool = False  # whether weight decay also shrinks biases and normalisation weights
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class SchedulerConfig:
    """How the learning rate changes, batch by batch."""

    name: str = "constant"
    warmup_epochs: float = 0.0  # the learning rate rises linearly over this many epochs first
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainerConfig:
    """How long, how, and on what the network trains."""

    epochs: int = 20
    batch_size: int = 64
    eval_batch_size: int = 1000
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    precision: str = "fp32"
    deterministic: bool = True
    compile: bool = False
    channels_last: bool = True  # memory order of images and filters; on a CPU LeNet-5 trains 5 % faster with it
    label_smoothing: float = 0.0
    clip_norm: float | None = None  # largest L2 norm of all gradients together
    monitor: str | None = (
        None  # chooses the best epoch, on the validation split; null = accuracy, or loss without classes
    )
    patience: int | None = None  # stop after this many epochs without a better monitor


@dataclass
class LoggerConfig:
    """Where metrics go besides the run folder."""

    name: str = "none"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ComparisonConfig:
    """What the table at the end of a sweep compares with."""

    baseline: str | None = None  # the group others are compared with, as in the table; null = the first
    reference: dict[str, Any] = field(default_factory=dict)  # published figures: group → accuracy, f1_macro


@dataclass
class Config:
    """One run."""

    seed: int = 0
    name: str = "run"
    tags: list[str] = field(default_factory=list)
    resume: str | None = None
    recipe: bool = False  # train as model.recipe says; what the command says goes before it
    preview: bool = False  # draw what augment does to the training images, and stop
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)


def default_dict() -> dict[str, Any]:
    """Every key with its default, as plain data: what the YAML files are merged into."""
    return _without_options(dataclasses.asdict(Config()))


def from_dict(plain: Mapping[str, Any]) -> Config:
    """A checked `Config` from plain data, such as a composed config or a run folder's `config.yaml`.

    Raises:
        ValueError: an unknown key, a wrong type, a value out of range, or an interpolation (`${…}`): a config
            that comes from a file is data, and is never evaluated.
    """
    refuse_interpolation(plain, "")
    kinds = {f.name: f.type for f in dataclasses.fields(Config)}
    values: dict[str, Any] = {}
    for name, value in plain.items():
        kind = kinds.get(name)
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ValueError(f"{name}={value!r}: accepted is a group of keys, or in a command {name}=NAME")
            values[name] = section(kind, name, value)  # type: ignore[arg-type]
    top = {name: value for name, value in plain.items() if name not in values}
    config = Config(**typed(kinds, "", top), **values)
    validate(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Plain data that `from_dict` turns into an equal config; options stand beside a section's other keys."""
    return _without_options(dataclasses.asdict(config))


def validate(config: Config) -> None:
    """Check every range and choice that needs no data and no torch.

    Raises:
        ValueError: names the key, the value and what is accepted.
    """
    model, data, optimizer, trainer = config.model, config.data, config.optimizer, config.trainer
    _require("seed", config.seed, 0 <= config.seed < 2**63, "a whole number from 0")
    _require(
        "name",
        config.name,
        _is_folder_name(config.name),
        "letters, digits and . _ - + =, not starting with a dot",
    )
    _require("model.width", model.width, 0 < model.width < math.inf, "a number above 0")
    _require("model.depth", model.depth, model.depth >= 1, "a whole number from 1")
    _require("model.init_std", model.init_std, 0 < model.init_std < math.inf, "a number above 0")
    _require("model.dropout", model.dropout, 0 <= model.dropout < 1, "a number from 0 up to, not including, 1")
    accepted = "a number from 0 up to, not including, 1"
    _require("data.val_fraction", data.val_fraction, 0 <= data.val_fraction < 1, accepted)
    accepted = "a number above 0 and below 1"
    _require("data.test_fraction", data.test_fraction, 0 < data.test_fraction < 1, accepted)
    limited = data.train_limit is None or data.train_limit >= 1
    _require("data.train_limit", data.train_limit, limited, "null or a whole number from 1")
    _require(
        "data.image_size",
        data.image_size,
        data.image_size is None or 1 <= data.image_size <= 1024,
        "null or a whole number from 1 to 1024",
    )
    _choice("data.normalize", data.normalize, NORMALIZATIONS)
    _choice("data.class_weights", data.class_weights, CLASS_WEIGHTS)
    _choice("data.sampler", data.sampler, SAMPLERS)
    _validate_augment(config.augment)
    _require("optimizer.lr", optimizer.lr, 0 < optimizer.lr < math.inf, "a number above 0")
    _require(
        "optimizer.weight_decay",
        optimizer.weight_decay,
        0 <= optimizer.weight_decay < math.inf,
        "a number from 0",
    )
    _require(
        "scheduler.warmup_epochs",
        config.scheduler.warmup_epochs,
        0 <= config.scheduler.warmup_epochs <= trainer.epochs,
        "a number from 0 to trainer.epochs",
    )
    _require("trainer.epochs", trainer.epochs, trainer.epochs >= 1, "a whole number from 1")
    _require("trainer.batch_size", trainer.batch_size, trainer.batch_size >= 1, "a whole number from 1")
    _require(
        "trainer.eval_batch_size",
        trainer.eval_batch_size,
        trainer.eval_batch_size >= 1,
        "a whole number from 1",
    )
    _require(
        "trainer.device",
        trainer.device,
        re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", trainer.device) is not None,
        "auto, cpu, cuda, cuda:N or mps",
    )
    _choice("trainer.precision", trainer.precision, PRECISIONS)
    _require(
        "trainer.label_smoothing",
        trainer.label_smoothing,
        0 <= trainer.label_smoothing < 1,
        "a number from 0 up to, not including, 1",
    )
    _require(
        "trainer.clip_norm",
        trainer.clip_norm,
        trainer.clip_norm is None or trainer.clip_norm > 0,
        "null or a number above 0",
    )
    if trainer.monitor is not None:
        _choice("trainer.monitor", trainer.monitor, MONITORS)
    _require(
        "trainer.patience",
        trainer.patience,
        trainer.patience is None or trainer.patience >= 1,
        "null or a whole number from 1",
    )
    if trainer.patience is not None and data.val_fraction == 0:
        raise ValueError(
            f"trainer.patience={trainer.patience} needs a validation split, but data.val_fraction=0: "
            "early stopping never looks at the test set"
        )


def _validate_augment(augment: AugmentConfig) -> None:
    for name, most in AUGMENT_LIMITS.items():
        value = getattr(augment, name)
        _require(f"augment.{name}", value, 0 <= value <= most, f"a number from 0 to {most}")
    for name, most in (("scale", 10), ("erase_area", 1)):
        values = getattr(augment, name)
        holds = len(values) == 2 and 0 < values[0] <= values[1] <= most
        _require(f"augment.{name}", values, holds, f"[LOW, HIGH] with 0 < LOW ≤ HIGH ≤ {most}")


def _require(key: str, value: object, holds: bool, accepted: str) -> None:
    if not holds:
        raise ValueError(f"{key}={value}: accepted is {accepted}")


def _choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = nearest(value, choices)
        hint = f" Did you mean {near}?" if near else ""
        raise ValueError(f"{key}={value}: accepted is {', '.join(choices)}.{hint}")


def _is_folder_name(name: str) -> bool:
    return re.fullmatch(r"(?!\.)[\w.+=-]{1,100}", name) is not None


def _without_options(plain: dict[str, Any]) -> dict[str, Any]:
    for values in plain.values():
        if isinstance(values, dict) and "options" in values:
            values.update(values.pop("options"))
    return plain
