"""One run from its config to its finished folder."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench.analysis import Summary, summarize
from cnnbench.config import Config, to_dict
from cnnbench.data import Batches, Dataset, DatasetInfo, Split, load_source, prepare
from cnnbench.data.polarity import polarity_of
from cnnbench.models import build_model
from cnnbench.record import draw_run, record_evaluation
from cnnbench.reproducibility import environment, set_deterministic
from cnnbench.results import FAILED, FINISHED, INTERRUPTED, RUNNING, RunFolder
from cnnbench.training.device import autocast, resolve_device
from cnnbench.training.loggers import open_logger
from cnnbench.training.optim import Schedule, build_optimizer, build_schedule
from cnnbench.training.tasks import task_of
from cnnbench.training.trainer import Outcome, fit

log = logging.getLogger("cnnbench")


@dataclass
class Parts:
    """Everything a run needs, built and checked."""

    device: torch.device
    dataset: Dataset
    model: nn.Module
    complexity: Summary
    optimizer: torch.optim.Optimizer
    schedule: Schedule


def build_parts(config: Config, *, shapes_only: bool = False) -> Parts:
    """Load the data and build model, optimizer and schedule.

    Args:
        shapes_only: allocate no weights; enough to find out that a config cannot work.

    Raises:
        ValueError: anything in the config that does not exist here or does not fit together.
    """
    device = resolve_device(config.trainer.device)
    autocast(device, config.trainer.precision)
    open_logger(config.logger.name, None, config.logger.options)
    dataset = load_dataset(config)
    model = model_for(config, dataset.info, "meta" if shapes_only else "cpu")
    _check_task(config, model, dataset.info)
    complexity = summarize(model, dataset.info.input_shape)
    if not shapes_only:
        model = placed(model, device, config)
    optimizer = build_optimizer(
        config.optimizer.name,
        model,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        decay_bias_and_norm=config.optimizer.decay_bias_and_norm,
        options=config.optimizer.options,
    )
    schedule = build_schedule(
        config.scheduler.name,
        epochs=config.trainer.epochs,
        steps_per_epoch=-(-len(dataset.train) // config.trainer.batch_size),
        warmup_epochs=config.scheduler.warmup_epochs,
        options=config.scheduler.options,
    )
    return Parts(device, dataset, model, complexity, optimizer, schedule)


def _check_task(config: Config, model: nn.Module, info: DatasetInfo) -> None:
    """Refuse settings of classification where there are no classes."""
    task, trainer = task_of(model), config.trainer
    if task.has_classes:
        return
    if trainer.monitor not in (None, task.monitor):
        raise ValueError(f"trainer.monitor={trainer.monitor}: accepted for {task.name} is null or {task.monitor}")
    if trainer.label_smoothing > 0:
        raise ValueError(f"trainer.label_smoothing={trainer.label_smoothing}: {task.name} has no labels, accepted is 0")
    if info.dimensions != 2:
        raise ValueError(f"model={config.model.name} takes images, and data={info.name} are signals")


def load_dataset(config: Config) -> Dataset:
    """The config's data, split and measured.

    Raises:
        ValueError: unknown or missing data, or nothing left to train on.
    """
    data = config.data
    source = load_source(data.name, root=data.root, download=data.download, options=data.options)
    return prepare(
        source,
        seed=config.seed,
        val_fraction=data.val_fraction,
        train_limit=data.train_limit,
        image_size=data.image_size,
        normalization=data.normalize,
    )


def model_for(config: Config, info: DatasetInfo, device: str = "cpu") -> nn.Module:
    """The config's model, fitted to the data's channels, size and classes.

    Raises:
        ValueError: an unknown model or option, or data it cannot take.
    """
    return build_model(
        config.model.name,
        in_channels=info.in_channels,
        image_size=info.image_size,
        num_classes=info.num_classes,
        dimensions=info.dimensions,
        width=config.model.width,
        depth=config.model.depth,
        activation=config.model.activation,
        dropout=config.model.dropout,
        init=config.model.init,
        init_std=config.model.init_std,
        options=config.model.options,
        seed=config.seed,
        device=device,
    )


def placed(model: nn.Module, device: torch.device, config: Config) -> nn.Module:
    """The model on a device, in the config's memory format."""
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device, memory_format=memory_format)  # type: ignore[call-overload]


def run_job(config: Config, path: Path, overrides: Sequence[str], *, resume: bool = False) -> dict[str, Any]:
    """Train and test one config in its folder, and draw its pictures.

    Args:
        path: a new folder, or with `resume` one that holds an unfinished run of the same config.
        overrides: what the user typed, for the record.

    Returns:
        The run's summary, as in `summary.json`.

    Raises:
        Exception: whatever stopped the run; `status.json` and `train.log` say it too.
    """
    run = RunFolder(path)
    set_deterministic(config.trainer.deterministic)
    if resume:
        run.set_status(RUNNING)
    else:
        run.start(to_dict(config), overrides, environment())
    with _logged_to(run.log), _status_of(run):
        parts = build_parts(config)
        log.info("%s on %s, %s", config.model.name, parts.dataset.info.name, parts.device)
        outcome = train_parts(config, run, parts, resume=resume)
        summary = _summary(config, parts, outcome)
        dataset = parts.dataset
        serve = partial(batches_of, dataset=dataset, config=config, device=parts.device)
        record_evaluation(run.path, outcome.test, dataset.test, dataset, model=parts.model, serve=serve)
        draw_run(run, outcome.test, dataset.test)
        run.write_summary(summary)
    return summary


def train_parts(config: Config, run: RunFolder, parts: Parts, *, resume: bool = False) -> Outcome:
    """Train and test what `build_parts` made, in a run folder that has been started."""
    trainer, dataset = config.trainer, parts.dataset
    batches = partial(batches_of, dataset=dataset, config=config, device=parts.device)
    logger = open_logger(config.logger.name, run.path, config.logger.options)
    try:
        return fit(
            run,
            parts.model,
            train=batches(dataset.train, shuffle=True),
            val=batches(dataset.val) if dataset.val else None,
            test=batches(dataset.test),
            optimizer=parts.optimizer,
            lr=config.optimizer.lr,
            schedule=parts.schedule,
            num_classes=dataset.info.num_classes,
            seed=config.seed,
            epochs=trainer.epochs,
            record={"data": _data_record(dataset)},
            logger=logger,
            precision=trainer.precision,
            compile=trainer.compile,
            label_smoothing=trainer.label_smoothing,
            clip_norm=trainer.clip_norm,
            monitor=trainer.monitor,
            patience=trainer.patience,
            resume=resume,
        )
    finally:
        logger.close()


def _data_record(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint says of the images, so that others can be prepared like them."""
    polarity = polarity_of(dataset.train.images)
    return {**asdict(dataset.info), "mean": dataset.mean, "std": dataset.std, "polarity": polarity}


def batches_of(
    split: Split, *, dataset: Dataset, config: Config, device: torch.device, shuffle: bool = False
) -> Batches:
    """A split's batches on a device: shuffled ones of the training size, or ordered ones of the evaluation size."""
    return Batches(
        split.to(device),
        config.trainer.batch_size if shuffle else config.trainer.eval_batch_size,
        mean=dataset.mean,
        std=dataset.std,
        shuffle_seed=config.seed if shuffle else None,
        channels_last=config.trainer.channels_last,
    )


def _summary(config: Config, parts: Parts, outcome: Outcome) -> dict[str, Any]:
    dataset, complexity = parts.dataset, parts.complexity
    images = len(outcome.rows) * len(dataset.train)
    return {
        "model": config.model.name,
        "data": config.data.name,
        "task": task_of(parts.model).name,
        "seed": config.seed,
        "parameters": complexity.parameters,
        "macs": complexity.macs,
        "receptive_field": max(complexity.receptive_field),
        "depth": complexity.depth,
        "epochs": len(outcome.rows),
        "best_epoch": outcome.best_epoch,
        **{f"test/{name}": value for name, value in outcome.test.scores().items()},
        "train_seconds": round(outcome.train_seconds, 3),
        "images_per_second": round(images / outcome.train_seconds, 1),
        "device": str(parts.device),
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
        "test_images": len(dataset.test),
        "test_labels_sha256": hashlib.sha256(dataset.test.labels.numpy().tobytes()).hexdigest(),
    }


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _status_of(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.exception("the run failed")
        run.set_status(FAILED, f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:
        run.set_status(INTERRUPTED, f"{type(error).__name__}: go on with: cnnbench train resume={run.path}")
        raise
    run.set_status(FINISHED)
