"""Build the parts of a run from its config, and check them: model, optimizer, schedule, batches."""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from cnnbench.analysis import Summary, summarize
from cnnbench.config.schema import AugmentConfig, Config
from cnnbench.data import (
    Augmentation,
    Batches,
    Change,
    Dataset,
    DatasetInfo,
    RegisteredAugmentation,
    Split,
    find_transform,
)
from cnnbench.data.memory import limit_data_of_run, refuse_beyond_memory
from cnnbench.experiment.group import check_together
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.starting_weights import Start, load_starting_weights
from cnnbench.models import NetworkSpec, build_model, compute_output_shape
from cnnbench.processes.capacity import Need
from cnnbench.processes.cores import count_threads
from cnnbench.processes.memory import keep_freed_memory
from cnnbench.registry import describe_unknown
from cnnbench.trackers import check_trackers
from cnnbench.training.device import check_devices, make_autocast, resolve_device
from cnnbench.training.graph import check_graph
from cnnbench.training.optim import Schedule, build_optimizer, build_schedule
from cnnbench.training.optimizers import Optimizer
from cnnbench.training.parts import freeze_parts
from cnnbench.training.tasks import get_task

MACS_PER_THREAD = 100_000_000  # of a batch's forward pass; benchmarks/LOG.md has the measurements


@dataclass
class Parts:
    """Everything a run needs, built and checked.

    Attributes:
        start: the weights that the model has from `model.weights`.
    """

    device: torch.device
    dataset: Dataset
    model: nn.Module
    complexity: Summary
    optimizer: Optimizer
    schedule: Schedule
    start: Start | None = None


def build_parts(
    config: Config,
    *,
    dataset: Dataset | None = None,
    shapes_only: bool = False,
    test: bool = True,
    within_memory: bool = False,
) -> Parts:
    """Load the data and build model, optimizer and schedule.

    Args:
        dataset: instead of the one that the config names.
        shapes_only: allocate no weights, to check whether a config can work.
        test: as in `load_dataset`.
        within_memory: refuse data beyond `limit_data_of_run` and a model beyond half of the memory: the config may be
            a stranger's.

    Raises:
        ValueError: something in the config that does not exist here or does not fit the rest.
    """
    device = resolve_device(config.trainer.device)
    check_devices(device, config.trainer.devices)
    make_autocast(device, config.trainer.precision)
    if config.trainer.graph:
        check_graph(device, config.trainer.precision, compiled=config.trainer.compile, devices=config.trainer.devices)
    check_trackers(config.logger.options)
    with limit_data_of_run() if within_memory else nullcontext():
        dataset = dataset or load_dataset(config, test=test)
    if within_memory:
        _refuse_large_models(config, dataset)
    model = make_model(config, dataset.info, "meta" if shapes_only else "cpu")
    start = load_starting_weights(config, model, dataset)
    freeze_parts(model, config.model.freeze)
    _check_task(config, model, dataset.info)
    make_augmentation(config, dataset.info, device)
    complexity = summarize(model, dataset.info.input_shape)
    _check_batches(config, model, dataset)
    if config.sweep.together:
        check_together(config, model, dataset, device)
    if not shapes_only:
        model = place_model(model, device, config)
    optimizer = build_optimizer(
        config.optimizer.name,
        model,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        decay_bias_and_norm=config.optimizer.decay_bias_and_norm,
        rates=config.optimizer.rates,
        options=config.optimizer.options,
    )
    schedule = build_schedule(
        config.scheduler.name,
        epochs=config.trainer.epochs,
        steps_per_epoch=-(-len(dataset.train) // (config.trainer.batch_size * config.trainer.accumulate)),
        warmup_epochs=config.scheduler.warmup_epochs,
        options=config.scheduler.options,
    )
    return Parts(device, dataset, model, complexity, optimizer, schedule, start)


def choose_threads(config: Config, complexity: Summary) -> int:
    """The number of torch's threads in each process of a run: `trainer.threads`, or a number that suits its work.

    It depends on network, batch size and processors, never on how busy they are. Threads busy-wait for one another: on
    small networks a second thread gains little, and slows the run tenfold when other processes compete for the cores.
    """
    if isinstance(config.trainer.threads, int):
        return config.trainer.threads
    devices = config.trainer.devices
    work = complexity.macs * config.trainer.batch_size // devices
    return max(1, min(count_threads() // devices, work // MACS_PER_THREAD))


def estimate_need(config: Config, parts: Parts) -> Need:
    """Estimate the resources that a run needs, to decide whether it can run beside others."""
    trainer, complexity = config.trainer, parts.complexity
    images = min(trainer.batch_size, len(parts.dataset.train))
    footprint = complexity.weight_bytes + images * complexity.activation_bytes
    return Need(choose_threads(config, complexity) * trainer.devices, str(parts.device), footprint)


def _refuse_large_models(config: Config, dataset: Dataset) -> None:
    """Refuse a config that this machine's memory cannot train."""
    model, trainer = config.model, config.trainer
    weights: float = math.inf
    what = f"model={model.name} with model.width={model.width:g} and model.depth={model.depth}"
    try:
        described = make_model(config, dataset.info, "meta")
        weights = sum(value.numel() * value.element_size() for value in described.parameters())
    except (RuntimeError, OverflowError):  # sizes beyond 64 bits
        pass
    refuse_beyond_memory(2 * weights, what)  # each has a gradient
    images = min(trainer.batch_size, len(dataset.train))
    if config.trainer.device in ("auto", "cpu"):
        what = f"trainer.batch_size={trainer.batch_size} with image_size={dataset.info.image_size}"
        refuse_beyond_memory(images * estimate_bytes_per_image(config, dataset.info), what)


def estimate_bytes_per_image(config: Config, info: DatasetInfo) -> int:
    """A lower bound for the memory of one image in a forward pass: the largest layer's output, in float32."""
    described = summarize(make_model(config, info, "meta"), info.input_shape)
    shapes = [info.input_shape, *(layer.output_shape for layer in described.layers if layer.output_shape)]
    return 4 * max(map(math.prod, shapes))


def _check_task(config: Config, model: nn.Module, info: DatasetInfo) -> None:
    """Refuse classification settings for a task without classes."""
    task, trainer = get_task(model), config.trainer
    if task.has_classes:
        return
    if trainer.monitor not in (None, task.monitor):
        raise ValueError(f"trainer.monitor={trainer.monitor}: for {task.name} it must be null or {task.monitor}")
    if config.data.class_weights != "none":
        raise ValueError(f"data.class_weights={config.data.class_weights}: {task.name} has no labels: must be none")
    if trainer.label_smoothing > 0:
        raise ValueError(f"trainer.label_smoothing={trainer.label_smoothing}: {task.name} has no labels: must be 0")
    for name in ("mixup", "cutmix"):
        if value := getattr(config.augment, name):
            raise ValueError(f"augment.{name}={value}: {task.name} has no labels to mix: must be 0")
    if info.dimensions != 2:
        raise ValueError(f"model={config.model.name} takes images, but data={info.name} holds signals")


def _check_batches(config: Config, model: nn.Module, dataset: Dataset) -> None:
    """Refuse what would fail only in training: auxiliary heads that do not fit, and norms over a batch of one image."""
    compute_output_shape(model, dataset.info.input_shape, training_batch=2)
    images, batch_size = len(dataset.train), config.trainer.batch_size
    if images % batch_size == 1 or batch_size == 1:
        try:
            compute_output_shape(model, dataset.info.input_shape, training_batch=1)
        except ValueError as error:
            raise ValueError(
                f"trainer.batch_size={batch_size} makes a batch of one of the {images} training images, "
                f"and a norm needs more than one value: {error}"
            ) from None


def make_model(config: Config, info: DatasetInfo, device: str = "cpu") -> nn.Module:
    """The config's model, fitted to the data's channels, size and classes.

    Raises:
        ValueError: an unknown model or option, or data it cannot take.
    """
    model = config.model
    return build_model(
        model.name,
        make_spec(config, info),
        init=model.init,
        init_std=model.init_std,
        options=model.options,
        seed=config.all_seeds.init,
        device=device,
    )


def make_spec(config: Config, info: DatasetInfo) -> NetworkSpec:
    """The arguments of the config's model that all families share."""
    model = config.model
    return NetworkSpec(
        info.in_channels, info.size, info.num_classes, model.width, model.depth, model.activation, model.dropout
    )


def place_model(model: nn.Module, device: torch.device, config: Config) -> nn.Module:
    """The model on a device, in the config's memory format."""
    if device.type == "cpu":
        keep_freed_memory()
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device, memory_format=memory_format)  # type: ignore[call-overload]


def make_augmentation(config: Config, info: DatasetInfo, device: torch.device) -> Change | None:
    """The augmentation of training images; None if `augment` asks for nothing.

    Raises:
        ValueError: the data are signals, the crop is as large as the images, or an option that does not exist.
    """
    augment, seed = config.augment, config.all_seeds.augment
    transform = find_transform(augment.name, augment.options)
    unchanged = AugmentConfig(name=augment.name)
    knobs = augment.model_dump(include=AugmentConfig.model_fields.keys() - {"name"})
    changed = [f"augment.{key}={value}" for key, value in knobs.items() if value != getattr(unchanged, key)]
    if transform is None and augment.options:
        raise ValueError(describe_unknown("key in augment", next(iter(augment.options)), AugmentConfig.model_fields))
    if transform is None and not changed:
        return None
    if info.dimensions != 2:
        what = f"{changed[0]} (augment={augment.name})" if changed else f"augment={augment.name}"
        raise ValueError(f"{what} changes images, but data={config.data.name} holds signals: use augment=none")
    if augment.crop >= min(info.size):
        raise ValueError(f"augment.crop={augment.crop}: must be less than the {min(info.size)} pixels of the images")
    own = Augmentation(seed=seed, num_classes=info.num_classes, device=device, **knobs) if changed else None
    return own if transform is None else RegisteredAugmentation(augment.name, transform, own, seed)


def make_batches(
    split: Split,
    *,
    dataset: Dataset,
    config: Config,
    device: torch.device,
    shuffle: bool = False,
    change: Change | None = None,
) -> Batches:
    """A split's batches on a device: for training (shuffled, augmented) or, in order, for evaluation.

    Args:
        change: what to do to the images in an evaluation.
    """
    return Batches(
        split.to(device),
        config.trainer.batch_size if shuffle else config.trainer.eval_batch_size,
        mean=dataset.mean,
        std=dataset.std,
        shuffle_seed=config.all_seeds.order if shuffle else None,
        sampler=config.data.sampler,
        channels_last=config.trainer.channels_last,
        augmentation=make_augmentation(config, dataset.info, device) if shuffle else change,
    ).with_permuted_pixels(config.data.permute_pixels)
