"""One run from its config to its finished folder."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnbench.config.schema import Config, to_dict
from cnnbench.data import Dataset, balanced_weights
from cnnbench.data.contents import digest
from cnnbench.data.polarity import SAMPLE, polarity_of
from cnnbench.experiment.build import Parts, augmentation_of, batches_of, build_parts, load_dataset, threads_of
from cnnbench.experiment.data_record import keep_data
from cnnbench.experiment.lifetime import lifetime
from cnnbench.experiment.record import (
    Picture,
    draw_in_turn,
    draw_preview,
    record_evaluation,
    record_run,
    record_skipped,
)
from cnnbench.experiment.resume import fingerprint
from cnnbench.processes import signals
from cnnbench.reproducibility import environment, set_deterministic
from cnnbench.runs.contents import read_threads
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.atomic import InUse
from cnnbench.storage.plain_data import write_json
from cnnbench.trackers import Trackers, open_trackers
from cnnbench.training.loop import Evaluation
from cnnbench.training.tasks import task_of
from cnnbench.training.trainer import Outcome, fit

log = logging.getLogger("cnnbench")
OnEpoch = Callable[[Mapping[str, Any]], None]


def run_job(
    config: Config,
    path: Path,
    overrides: Sequence[str],
    *,
    resume: bool = False,
    test: bool = True,
    on_epoch: OnEpoch | None = None,
    draw: Callable[[Sequence[Picture]], None] = draw_in_turn,
) -> dict[str, Any]:
    """Train and test one config in its folder, and draw its pictures.

    Args:
        path: a new folder, or with `resume` one that holds a run of the same config.
        overrides: what the user typed, for the record.
        test: whether to measure the best weights on the test split; a search does not, and its summary has no `test`.
        on_epoch: as in `fit`.
        draw: draws all pictures of the run, in whatever order.

    Returns:
        The run's summary, as in `summary.json`.

    Raises:
        InUse: another process works in the folder, or has put a run there.
        CannotGoOn: a run cannot go on as it was asked to; nothing has been written.
        Exception: whatever stopped the run; `status.json` and `train.log` say it too.
    """
    run = RunFolder(path)
    set_deterministic(config.trainer.deterministic)
    with ExitStack() as entered:
        with signals.deferred():  # a signal between the lock and the status would leave that of an earlier process
            entered.enter_context(run.lock())
            if not resume and (path / "config.yaml").exists():
                raise InUse(f"{path} holds a run already")
            life = entered.enter_context(lifetime(run, config))
            if not resume:
                life.begin()
        if not resume:
            run.start(to_dict(config), overrides)
        parts = build_parts(config, test=test, within_memory=resume)
        # Their number decides the last bits of a result: a run keeps its own, wherever it goes on.
        torch.set_num_threads(read_threads(path) or threads_of(config, parts.complexity))
        if not resume:
            write_json(path / "env.json", environment())
        log.info("%s", parts.dataset.described())
        log.info("%s on %s, %s", config.model.name, parts.dataset.info.name, parts.device)
        logger = Trackers()

        def begin() -> Trackers:
            nonlocal logger
            if resume:
                with signals.deferred():
                    life.begin()
                life.resume(to_dict(config), overrides)
            record_skipped(run, parts.dataset)
            for note in parts.dataset.notes:
                log.warning("%s", note)
            options = config.logger.options
            opened = open_trackers(options, run.path, to_dict(config), resume=resume, problems=life.notes)
            logger = entered.enter_context(opened)
            return logger

        outcome = train_parts(config, run, parts, resume=resume, test=test, on_epoch=on_epoch, begin=begin)
        summary = _summary(config, parts, outcome)
        draw(_record(config, run, parts, outcome))
        run.write_summary(summary)
        logger.finish(summary)
    return summary


def _record(config: Config, run: RunFolder, parts: Parts, outcome: Outcome) -> list[Picture]:
    """Write what the test showed, if there was one; returns what is to be drawn."""
    test, dataset = outcome.test, parts.dataset
    pictures = []
    if test is not None:
        serve = partial(batches_of, dataset=dataset, config=config, device=parts.device)
        pictures = record_evaluation(run.path, test, dataset.test, dataset, model=parts.model, serve=serve)
    return pictures + record_run(run, test, dataset.test)


def train_parts(
    config: Config,
    run: RunFolder,
    parts: Parts,
    *,
    resume: bool = False,
    test: bool = True,
    on_epoch: OnEpoch | None = None,
    begin: Callable[[], Trackers] = lambda: Trackers(),
) -> Outcome:
    """Train and test what `build_parts` made, in a run folder that has been started."""
    trainer, dataset = config.trainer, parts.dataset
    batches = partial(batches_of, dataset=dataset, config=config, device=parts.device)
    return fit(
        run,
        parts.model,
        train=batches(dataset.train, shuffle=True),
        val=batches(dataset.val) if dataset.val else None,
        test=batches(dataset.test) if test else None,
        optimizer=parts.optimizer,
        lr=config.optimizer.lr,
        schedule=parts.schedule,
        num_classes=dataset.info.num_classes,
        seed=config.seed,
        epochs=trainer.epochs,
        record={
            "config": fingerprint(config),
            "data": _data_record(dataset),
            "split": keep_data(run, dataset, each="path" in config.data.options, test=test),
        },
        begin=begin,
        precision=trainer.precision,
        compile=trainer.compile,
        label_smoothing=trainer.label_smoothing,
        clip_norm=trainer.clip_norm,
        class_weights=_class_weights(config, dataset),
        monitor=trainer.monitor,
        patience=trainer.patience,
        ema=trainer.ema,
        checkpoint_minutes=trainer.checkpoint_minutes,
        keep=trainer.keep,
        accumulate=trainer.accumulate,
        resume=resume,
        on_epoch=on_epoch,
    )


def _data_record(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint says of the images, so that others can be prepared like them."""
    polarity = None
    if dataset.info.in_channels == 1:  # photographs in colour have none, and may have to be decoded for it
        sample = torch.arange(0, len(dataset.train), -(-len(dataset.train) // SAMPLE))
        polarity = polarity_of(dataset.train[sample].images)
    return {**asdict(dataset.info), "mean": dataset.mean, "std": dataset.std, "polarity": polarity}


def preview(config: Config, folder: Path) -> Path:
    """Draw what `augment` makes of training images into `augmented.png` in a folder; returns its path."""
    dataset = load_dataset(config)
    log.info("%s", dataset.described())
    title = f"augment={config.augment.name} on {dataset.info.name}: training images, and what each epoch makes of them"
    return draw_preview(folder, dataset, augmentation_of(config, dataset.info, torch.device("cpu")), title)


def _class_weights(config: Config, dataset: Dataset) -> tuple[float, ...] | None:
    if config.data.class_weights == "none":
        return None
    return balanced_weights(dataset.train.labels, dataset.info.num_classes)


def _summary(config: Config, parts: Parts, outcome: Outcome) -> dict[str, Any]:
    dataset, complexity = parts.dataset, parts.complexity
    images = outcome.epochs * len(dataset.train)
    return {
        "model": config.model.name,
        "data": config.data.name,
        "task": task_of(parts.model).name,
        "seed": config.seed,
        "parameters": complexity.parameters,
        "dense_share": round(complexity.dense_share, 6),
        "weight_bytes": complexity.weight_bytes,
        "macs": complexity.macs,
        "flops": complexity.flops,
        "activation_bytes": complexity.activation_bytes,
        "receptive_field": max(complexity.receptive_field),
        "depth": complexity.depth,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        **(_tested(outcome.test, dataset) if outcome.test else {}),
        "train_seconds": round(outcome.train_seconds, 3),
        "images_per_second": round(images / outcome.train_seconds, 1),
        "device": str(parts.device),
        "train_set_sha256": dataset.pool,
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
    }


def _tested(test: Evaluation, dataset: Dataset) -> dict[str, Any]:
    return {
        **{f"test/{name}": value for name, value in test.scores().items()},
        "test_images": len(dataset.test),
        "test_labels_sha256": _sha256(dataset.test.labels),
        "test_set_sha256": digest(dataset.info, dataset.test),
    }


def _sha256(labels: Tensor) -> str:
    return hashlib.sha256(labels.numpy().tobytes()).hexdigest()
