"""Build the parts of a run from its config, check that they fit together, and prepare their training."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from cnnbench.analysis import Summary, summarize
from cnnbench.config.schema import Config, to_dict
from cnnbench.data import Dataset, DatasetInfo, balance_weights
from cnnbench.data.memory import limit_data_of_run, refuse_beyond_memory
from cnnbench.data.sets.arrays import NAME as ARRAYS
from cnnbench.experiment.data_record import describe_images, record_data
from cnnbench.experiment.factories import (
    count_values,
    estimate_bytes_per_image,
    make_augmentation,
    make_batches,
    make_model,
    make_schedule,
    place_model,
)
from cnnbench.experiment.group import check_together
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.resume import compute_fingerprint
from cnnbench.experiment.starting_weights import Start, load_starting_weights
from cnnbench.models import compute_output_shape
from cnnbench.processes.capacity import Need
from cnnbench.processes.cores import count_threads
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.reproducibility import describe_differences, use_threads
from cnnbench.runs.folder import RunFolder
from cnnbench.trackers import check_trackers
from cnnbench.training.device import check_devices, make_autocast, resolve_device
from cnnbench.training.graph import check_graph
from cnnbench.training.optim import Schedule, build_optimizer
from cnnbench.training.parts import freeze_parts
from cnnbench.training.settings import Settings
from cnnbench.training.state import State
from cnnbench.training.tasks import get_task
from cnnbench.training.torch_optimizers import Optimizer
from cnnbench.training.trainer import Splits, build_state, fit, follow

MACS_PER_THREAD = 100_000_000  # of a batch's forward pass; benchmarks/LOG.md has the measurements


@dataclass
class Parts:
    """Everything a run needs, built and checked."""

    device: torch.device
    dataset: Dataset
    model: nn.Module
    complexity: Summary
    optimizer: Optimizer
    schedule: Schedule
    start: Start | None = None  # the weights that `model.weights` names


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
    make_autocast(device, config.trainer.precision)  # refuses a precision that the device lacks
    if config.trainer.graph:
        check_graph(device, config.trainer.precision, compiled=config.trainer.compile, devices=config.trainer.devices)
    check_trackers(config.logger.options)
    with limit_data_of_run() if within_memory else nullcontext():
        dataset = dataset or load_dataset(config, test=test)
    if within_memory:
        _refuse_large_models(config, dataset)
    # On the CPU first: its generator gives the same weights whatever the device.
    model = make_model(config, dataset.info, "meta" if shapes_only else "cpu")
    start = load_starting_weights(config, model, dataset)
    freeze_parts(model, config.model.freeze)  # before `summarize`, which counts what is frozen
    _check_task(config, model, dataset.info)
    make_augmentation(config, dataset.info, device)  # refuses what does not fit; the batches make their own
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
    steps = -(-len(dataset.train) // (config.trainer.batch_size * config.trainer.accumulate))
    schedule = make_schedule(config.scheduler, config.trainer.epochs, steps)
    return Parts(device, dataset, model, complexity, optimizer, schedule, start)


def choose_threads(config: Config, complexity: Summary) -> int:
    """The number of torch's threads in each process of a run: `trainer.threads`, or a number that suits its work."""
    if isinstance(config.trainer.threads, int):
        return config.trainer.threads
    # Threads busy-wait for one another: on small networks a second thread gains little, and slows the run tenfold when
    # other processes compete for the cores. How busy they are must not count, because the number decides the last bits.
    devices = config.trainer.devices
    work = complexity.macs * config.trainer.batch_size // devices
    return max(1, min(count_threads() // devices, work // MACS_PER_THREAD))


def use_threads_of(run: RunFolder, device: torch.device, default: int | None = None) -> list[str]:
    """Compute on a device with the number of threads of a run, on which the last bits of a result depend.

    Args:
        default: the number of threads if the run's own is not known; None leaves it as it is.

    Returns:
        A note, if something else differs from the run's own environment that may change the last bits.
    """
    if threads := run.read_threads() or default:
        use_threads(threads)
    differences = describe_differences(run.read_environment(), device)
    if not differences:
        return []
    return [f"the last bits may differ from those of the machine that trained the run: {'; '.join(differences)}"]


def estimate_need(config: Config, parts: Parts) -> Need:
    """Estimate the resources that a run needs, to decide whether it can run beside others."""
    trainer, complexity = config.trainer, parts.complexity
    images = min(trainer.batch_size, len(parts.dataset.train))
    footprint = complexity.weight_bytes + images * complexity.activation_bytes
    return Need(choose_threads(config, complexity) * trainer.devices, str(parts.device), footprint)


def _refuse_large_models(config: Config, dataset: Dataset) -> None:
    """Refuse a config that this machine's memory cannot train."""
    model, trainer = config.model, config.trainer
    what = f"model={model.name} with model.width={model.width:g} and model.depth={model.depth}"
    refuse_beyond_memory(8 * count_values(config, dataset.info), what)  # float32, and each has a gradient
    if trainer.device in ("auto", "cpu"):
        images = min(trainer.batch_size, len(dataset.train))
        what = f"trainer.batch_size={trainer.batch_size} with image_size={dataset.info.image_size}"
        refuse_beyond_memory(images * estimate_bytes_per_image(config, dataset.info), what)


def _check_task(config: Config, model: nn.Module, info: DatasetInfo) -> None:
    """Refuse classification settings, and signals, for a task without classes."""
    task, trainer = get_task(model), config.trainer
    if task.has_classes:
        return
    if trainer.monitor not in (None, task.monitor):
        raise ValueError(f"trainer.monitor={trainer.monitor}: for {task.name} it must be null or {task.monitor}")
    needing_labels = {
        "data.class_weights": (config.data.class_weights, "none"),
        "trainer.label_smoothing": (trainer.label_smoothing, 0),
        "augment.mixup": (config.augment.mixup, 0),
        "augment.cutmix": (config.augment.cutmix, 0),
    }
    for key, (value, unused) in needing_labels.items():
        if value != unused:
            raise ValueError(f"{key}={value}: {task.name} has no labels: must be {unused}")
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


def prepare_training(
    config: Config, run: RunFolder, parts: Parts, *, test: bool = True, rank: Rank = ALONE
) -> tuple[State, Callable[..., Any]]:
    """Record the data, or compare them with the record; return the state before the first step, and what trains it.

    That is `fit` with all arguments but `on_epoch`; in ranks above 0, `follow`. All ranks of a run call this together.

    Raises:
        ValueError: the data differ from those that the run began with.
    """
    dataset = parts.dataset
    serve = partial(make_batches, dataset=dataset, config=config, device=parts.device)
    data = Splits(
        train=serve(dataset.train, shuffle=True).for_rank(rank),
        val=serve(dataset.val) if dataset.val else None,
        test=serve(dataset.test) if test else None,
    )
    settings = make_settings(config, dataset)
    record: dict[str, Any] = {}
    if rank.number == 0:  # the others write no checkpoints
        is_own = config.data.name == ARRAYS or "path" in config.data.options  # the user's: keep a hash of each image
        split = record_data(run, dataset, each=is_own, test=test)
        record = {"config": compute_fingerprint(to_dict(config)), "data": describe_images(dataset), "split": split}
    state = build_state(run, parts.model, data, settings, optimizer=parts.optimizer, record=record)
    return state, partial(follow if rank.number else fit, state, data, settings, parts.schedule)


def make_settings(config: Config, dataset: Dataset) -> Settings:
    """The settings of training that a config and its data give."""
    balanced = config.data.class_weights != "none"
    return Settings(
        noise_seed=config.all_seeds.dropout,
        lr=config.optimizer.lr,
        num_classes=dataset.info.num_classes,
        class_weights=balance_weights(dataset.train.labels, dataset.info.num_classes) if balanced else None,
        # Keys of `trainer` have the names of the settings that they are.
        **config.trainer.model_dump(include={field.name for field in fields(Settings)}),
    )
