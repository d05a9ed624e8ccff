"""Every key of a config: its type, default (written only here), accepted values, meaning and role.

The YAML files in `configs/` choose names and override these defaults where a part needs it. A `PartSection` also
takes the options of its part (`optimizer.momentum`, `data.path` …), which are declared in the part's own file.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnnbench.config.keys import PartSection, Section, format_value, key, list_control_keys
from cnnbench.config.seeds import Fold, Seeds, SeedsConfig, read_fold, read_seeds
from cnnbench.config.sweep import SweepConfig
from cnnbench.config.text_values import refuse_interpolation
from cnnbench.config.value_types import (
    NOT_IN_NAMES,
    Activation,
    Factors,
    Initialisation,
    Name,
    Parts,
    Pixels,
    Rates,
    Seed,
    Shares,
    Sides,
)
from cnnbench.processes.cores import MOST_THREADS

# MNIST and datasets like it, on which most recipes were found.
SMALL_GREY = ("digits", "mnist", "fashion_mnist", "kmnist", "emnist", "qmnist", "usps")


class ModelConfig(PartSection):
    """The network and its size."""

    name: str = key("The network", "lenet5")
    width: float = key("Multiplies every hidden channel and unit count", 1.0, gt=0, le=1000)
    depth: int = key("Multiplies the layers of every stage", 1, ge=1, le=100)
    activation: Activation = key("The nonlinearity between layers", "relu")
    dropout: float = key("Dropout rate after hidden dense layers, or else before the last layer", 0.0, ge=0, lt=1)
    init: Initialisation = key("Initialisation of the weights; default is torch's, as in the course", "default")
    init_std: float = key("Standard deviation of init=normal", 0.01, gt=0)
    weights: str | None = key(
        "Initial weights: a safetensors file, a state dict of torch, a run's folder or torchvision; null: random", None
    )
    weights_sha256: str | None = key(
        "The SHA-256 of the file of model.weights, or its first digits; read from the file if it is null", None
    )
    freeze: Parts = key(
        "Parts of the network that are not trained, as module paths or globs; features: all but the last part",
        [],
        accepted="none, features, or a list of module paths or globs, such as [features.stage1,*norm*]",
    )
    # Not a result: the config records what the overrides of a recipe set.
    recipe: list[str] = key("The overrides that recipe=true puts before the command's own", [], role="control")
    recipe_data: list[str] = key("The datasets that the recipe was made for", [*SMALL_GREY], role="control")


class DataConfig(PartSection):
    """The images, and how they are split and scaled."""

    name: str = key("The dataset", "digits")
    root: str = key("The folder where datasets are stored; $CNNBENCH_DATA if that is set", "data", role="place")
    download: bool = key("Download a dataset or weights of torchvision that are missing", True, role="place")
    val_fraction: float = key(
        "Share of the training images held out for validation, stratified; ignored if the data have a validation split",
        0.1,
        ge=0,
        lt=1,
    )
    test_fraction: float = key("Share of each class to test on, if the data have no test split", 0.2, gt=0, lt=1)
    test_seed: Seed = key("Seed of the test split that test_fraction cuts; independent of `seed` and `seeds`", 0)
    folds: int | None = key(
        "Cross-validate: test on one of this many folds of the training images; sweep.folds sets it", None, ge=2, le=100
    )
    fold: int | None = key("The fold to test on, from 1 to data.folds", None, ge=1)
    exclude: str | None = key("A CSV list of images to leave out of the data, as `cnnbench check` writes it", None)
    check: Literal["warn", "fail", "off"] = key(
        "Look for nearly equal images in two splits or with two labels before training, and warn of them or fail",
        "off",
        role="control",
    )
    train_limit: int | None = key("Train on at most this many images, stratified", None, ge=1)
    image_size: Pixels | Sides | None = key(
        "Resize images to N×N or [HEIGHT,WIDTH] pixels; null leaves them as they are",
        None,
        accepted="null, a whole number from 1 to 1024, or [HEIGHT,WIDTH] of such numbers",
    )
    normalize: Literal["half", "dataset", "none"] = key(
        "Scale pixels to -1…1 (half), by the training images' mean and deviation (dataset), or to 0…1 (none)", "half"
    )
    permute_pixels: bool = key("Shuffle the pixels of all images by one permutation, the same for every run", False)
    class_weights: Literal["none", "balanced"] = key(
        "balanced: weigh classes by n / (K · n_c) in the training loss", "none"
    )
    sampler: Literal["uniform", "balanced"] = key(
        "balanced: draw each class equally often, with replacement", "uniform"
    )

    @property
    def held_out(self) -> Fold | None:
        """The fold that is tested on; None tests on the test split."""
        return read_fold({"data": vars(self)})

    @model_validator(mode="after")
    def _check_fold(self) -> Self:
        read_fold({"data": vars(self)})
        return self


class AugmentConfig(PartSection):
    """The augmentation of training images, with random parameters for each image; by default none.

    A preset in `configs/augment/` sets these keys. Its `exceptions` apply to some datasets; overrides take precedence.
    A registered augmentation of the preset's name also changes the images, by its own options.
    """

    name: str = key("The preset that sets these keys", "none")
    flip: float = key("Share of images that are mirrored horizontally", 0.0, ge=0, le=1)
    crop: int = key("Shift by up to this many whole pixels: a random crop of the padded image", 0, ge=0, le=1024)
    rotate: float = key("Rotate by up to this many degrees either way", 0.0, ge=0, le=180)
    shift: float = key("Shift by up to this share of each side, either way", 0.0, ge=0, le=1)
    scale: Factors = key(
        "Smallest and largest scale factor", [1.0, 1.0], length=2, accepted="[LOW,HIGH] with 0 < LOW ≤ HIGH ≤ 10"
    )
    # Beyond 60 degrees, images are sheared beyond recognition.
    shear: float = key("Shear by up to this many degrees either way", 0.0, ge=0, le=60)
    erase: float = key("Share of images in which a random box is made black", 0.0, ge=0, le=1)
    erase_area: Shares = key(
        "Smallest and largest box, as a share of the image",
        [0.02, 0.2],
        length=2,
        accepted="[LOW,HIGH] with 0 < LOW ≤ HIGH ≤ 1",
    )
    brightness: float = key("Multiply by a factor of 1 ± this", 0.0, ge=0, le=1)
    contrast: float = key("Scale contrast by a factor of 1 ± this about the image's mean", 0.0, ge=0, le=1)
    mixup: float = key("Alpha of mixup's Beta distribution of weights", 0.0, ge=0, le=100)
    cutmix: float = key("Alpha of cutmix's Beta distribution of areas", 0.0, ge=0, le=100)


class OptimizerConfig(PartSection):
    """The optimizer."""

    name: str = key("The optimizer", "adam")
    lr: float = key("Learning rate", 1e-3, gt=0)
    weight_decay: float = key("Weight decay", 0.0, ge=0)
    decay_bias_and_norm: bool = key("Apply weight decay to biases and norms too", False)
    rates: Rates = key(
        "Factors of the learning rate of parts of the network, by module path or glob; the longest that matches counts",
        {},
        accepted="module paths or globs with numbers above 0, up to 1,000, such as {features: 0.1}",
    )


class SchedulerConfig(PartSection):
    """The schedule of the learning rate, by batch."""

    name: str = key("The schedule of the learning rate", "constant")
    warmup_epochs: float = key("Epochs of linear warm-up of the learning rate", 0.0, ge=0)


class TrainerConfig(Section):
    """How long, how, and on which device to train."""

    # The limit keeps metrics.csv readable. More epochs continue the same run if the schedule does not depend on them.
    epochs: int = key("Passes over the training images", 20, ge=1, le=100_000, may_change=True)
    batch_size: int = key("Images per batch", 64, ge=1)
    accumulate: int = key("Batches per step (gradient accumulation): a larger batch in the same memory", 1, ge=1)
    # Without gradients, larger batches fit into the same memory.
    eval_batch_size: int = key("Images per batch in validation and test", 1000, ge=1)
    # Another device, or compiled code, rounds differently. But an interrupted run may have to continue elsewhere.
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = key(
        "Device to train on", "auto", may_change=True, accepted="auto, cpu, cuda, cuda:N or mps"
    )
    devices: int = key("GPUs, or processes on the CPU, that share each batch", 1, ge=1, le=64, may_change=True)
    precision: Literal["fp32", "bf16", "fp16"] = key("Number format of the forward pass", "fp32")
    # The number of threads that share a sum changes its last bits.
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | Literal["auto"] = key(
        "Threads of torch on each device; auto: one per 100 million multiply-accumulates of a batch there", "auto"
    )
    deterministic: bool = key("Use deterministic algorithms only", True)
    compile: bool = key("Compile the model with torch.compile", False, may_change=True)
    # A result key, because the graph keeps the learning rate as float32, which rounds differently.
    graph: bool = key("Replay the training step as a CUDA graph, which launches it at once", False, may_change=True)
    channels_last: bool = key("Keep images and filters in channels-last memory order", True)
    label_smoothing: float = key("Share of each label that is spread over all classes", 0.0, ge=0, lt=1)
    clip_norm: float | None = key("Largest L2 norm of all gradients together", None, gt=0)
    monitor: Literal["val/loss", "val/accuracy", "val/f1_macro"] | None = key(
        "The metric that chooses the best epoch; null: val/accuracy, or val/loss without classes", None
    )
    patience: int | None = key("Stop after this many epochs without a better monitor", None, ge=1)
    ema: float | None = key(
        "Decay of a moving average of the weights, which is then validated and tested", None, gt=0, lt=1
    )
    checkpoint_minutes: float | None = key(
        "Also save this often within an epoch; null: after each epoch only", None, gt=0, role="control"
    )
    keep: int = key("Checkpoints of past epochs to keep beside last and best", 0, ge=0, role="control")
    # A timer of Python takes at most 292 years.
    timeout_minutes: float | None = key(
        "Stop a job of a sweep that takes longer than this; it counts as failed", None, gt=0, le=10**6, role="control"
    )


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
