"""The typed configuration: what every key means, its default (written here once) and what it accepts.

The YAML files in `configs/` choose names and differ from these defaults where a part needs it. A section with an
`options` field also takes keys of its own part (`optimizer.momentum`, `scheduler.step_epochs` …), which the part's
signature types and checks.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnbench.config.checks import validate
from cnnbench.config.conversion import refuse_interpolation, section, typed

# What is near enough to MNIST, on which most recipes were found.
SMALL_GREY = ("digits", "mnist", "fashion_mnist", "kmnist", "emnist", "qmnist", "usps")


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
    recipe_data: list[str] = field(default_factory=lambda: [*SMALL_GREY])  # the data that the recipe was made for
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """Which images, how they are split and scaled."""

    name: str = "digits"
    root: str = "data"  # where datasets are stored; configs/config.yaml sets it to $CNNBENCH_DATA if that is set
    download: bool = True  # fetch a torchvision dataset that is not there; never anything else
    val_fraction: float = 0.1  # of the training images, stratified; 0 = none; not where the data has its own split
    test_fraction: float = 0.2  # of each class; only where the data have no test split
    split_seed: int = 0  # which images those are, the same for every seed; only where the data have no test split
    train_limit: int | None = None  # at most this many training images, stratified
    image_size: Any = None  # resize to so many pixels, N for a square or [HEIGHT, WIDTH]; null = as they are
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
    accumulate: int = 1  # batches that make a step together: the step of batch_size · accumulate images in less memory
    eval_batch_size: int = 1000
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    precision: str = "fp32"
    threads: int | str = "auto"  # of torch; auto: one for each 100 million multiply-accumulates of a batch
    deterministic: bool = True
    compile: bool = False
    channels_last: bool = True  # memory order of images and filters; on a CPU LeNet-5 trains 5 % faster with it
    label_smoothing: float = 0.0
    clip_norm: float | None = None  # largest L2 norm of all gradients together
    monitor: str | None = (
        None  # chooses the best epoch, on the validation split; null = accuracy, or loss without classes
    )
    patience: int | None = None  # stop after this many epochs without a better monitor
    ema: float | None = None  # decay of a moving average of the weights; what is validated, tested and kept as best
    checkpoint_minutes: float | None = None  # also save this often within an epoch; null = after each epoch alone
    keep: int = 0  # checkpoints of past epochs that stay beside last and best
    timeout_minutes: float | None = None  # in a sweep, a job that takes longer is stopped and counts as failed


@dataclass
class LoggerConfig:
    """Where a run goes besides its folder: the name of each tracker, with its own options."""

    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ComparisonConfig:
    """What the report of a sweep compares with."""

    baseline: str | None = None  # the group others are compared with, such as model=mlp; null = the first
    reference: dict[str, Any] = field(default_factory=dict)  # published figures: group → accuracy, f1_macro
    protocol: dict[str, Any] = field(default_factory=dict)  # section → keys with the values they were measured under


@dataclass
class SweepConfig:
    """What a command asks of its sweep, rather than of the runs in it: no run's config.yaml holds it."""

    seeds: int | None = None  # every config is run with each of the seeds 0, 1, … below this
    restart: bool = False  # start afresh, whatever an earlier call of the same command has finished


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
    sweep: SweepConfig = field(default_factory=SweepConfig)


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
    """Plain data that `from_dict` turns into an equal config, but for `sweep`; options stand beside other keys."""
    plain = _without_options(dataclasses.asdict(config))
    del plain["sweep"]
    return plain


def _without_options(plain: dict[str, Any]) -> dict[str, Any]:
    for values in plain.values():
        if isinstance(values, dict) and "options" in values:
            values.update(values.pop("options"))
    return plain
