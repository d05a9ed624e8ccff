"""One run, from its config to its finished folder."""

import hashlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cnnbench.analysis import Summary
from cnnbench.config.schema import Config, to_dict
from cnnbench.data import Dataset
from cnnbench.data.contents import digest
from cnnbench.experiment.build import Parts, build_parts, choose_threads, make_augmentation, make_batches
from cnnbench.experiment.data_record import count_leaks, describe_own_data
from cnnbench.experiment.group import run_group
from cnnbench.experiment.lifetime import Lifetime, track_lifetime
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.preparation import prepare_training
from cnnbench.experiment.ranks import start_ranks
from cnnbench.experiment.result_files import (
    draw_preview,
    prepare_samples,
    write_result_files,
    write_run_files,
    write_skipped,
)
from cnnbench.experiment.starting_weights import settle_start
from cnnbench.experiment.trained import use_threads_of
from cnnbench.metrics import compute_accuracy_interval
from cnnbench.plugins.loading import describe_plugins
from cnnbench.processes import signals
from cnnbench.reproducibility import describe_environment, set_deterministic
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.pictures import Draw, Picture, draw_in_turn
from cnnbench.storage.atomic import InUse
from cnnbench.storage.plain_data import write_json
from cnnbench.trackers import open_trackers
from cnnbench.training.loop import Evaluation
from cnnbench.training.passes import TrainingPass, train_alone
from cnnbench.training.tasks import get_task
from cnnbench.training.trainer import Outcome

log = logging.getLogger("cnnbench")
OnEpoch = Callable[[Mapping[str, Any]], None]


def run_job(
    config: Config,
    path: Path,
    overrides: Sequence[str],
    *,
    resume: bool = False,
    test: bool = True,
    parts: Parts | None = None,
    on_epoch: OnEpoch = lambda row: None,
    draw: Draw = draw_in_turn,
) -> dict[str, Any]:
    """Train and test one config in its folder, and draw its pictures.

    Args:
        path: a new folder or, with `resume`, one that holds a run of the same config.
        overrides: what the user typed, for the record.
        parts: those of the config, if they are built already.
        test: whether to measure the best weights on the test split. A search does not; its summary has no `test/…`.
        on_epoch: as in `fit`.
        draw: draws all pictures of the run.

    Returns:
        The run's summary, as in `summary.json`.

    Raises:
        As `start_job` does.
    """
    job = start_job(config, path, overrides, resume=resume, test=test, parts=parts, on_epoch=on_epoch, draw=draw)
    if not config.sweep.together:
        return train_alone(job)
    (member,) = run_group([job])  # the same code as beside other runs, so the same bits
    if member.error is not None:
        raise member.error
    return member.summary


def start_job(
    config: Config,
    path: Path,
    overrides: Sequence[str],
    *,
    resume: bool = False,
    test: bool = True,
    parts: Parts | None = None,
    on_epoch: OnEpoch = lambda row: None,
    draw: Draw = draw_in_turn,
) -> Generator[TrainingPass, dict[str, float] | None, dict[str, Any]]:
    """`run_job`, which pauses before it trains an epoch, as `fit` does.

    Raises:
        InUse: another process works in the folder, or has put a run there.
        CannotGoOn: the run cannot be resumed in this way; nothing has been written.
        Exception: whatever stopped the run; `status.json` and `train.log` record it too.
    """
    run = RunFolder(path)
    set_deterministic(config.trainer.deterministic, compiled=config.trainer.compile)
    with ExitStack() as entered:
        life = _claim_folder(run, config, overrides, resume=resume, entered=entered)
        found = settle_start(describe_own_data(config, path, check=True), run) if resume else config
        others = entered.enter_context(start_ranks(found, path, resume=resume))
        parts = parts or build_parts(found, test=test, within_memory=resume)
        dataset = parts.dataset
        notes = _set_threads(run, config, parts)
        log.info("%s", dataset.describe())
        log.info("%s on %s, %s", config.model.name, dataset.info.name, parts.device)
        _log_parts(config, parts)
        state, train = prepare_training(config, run, parts, test=test, rank=others.join(parts.device))
        if resume:
            state.restore()
            life.resume(to_dict(config), overrides)
        others.let_restore()
        _record_environment(run)
        if parts.start is not None:
            parts.start.record(run)
        _record_problems(run, dataset, notes)
        draw(prepare_samples(run, dataset), wait=False)
        known, options = state.history.epochs, config.logger.options
        opened = open_trackers(options, path, to_dict(config), resume=resume, problems=life.notes)
        logger = entered.enter_context(opened)

        def report_epoch(row: Mapping[str, Any]) -> None:
            if row["epoch"] > known:
                logger.log(row)
            on_epoch(row)

        outcome = yield from train(on_epoch=report_epoch)
        draw(_record(config, run, parts, outcome))
        run.write_summary(summary := _summarize_run(config, parts, outcome))
        logger.finish(summary)
    return summary


def _claim_folder(
    run: RunFolder, config: Config, overrides: Sequence[str], *, resume: bool, entered: ExitStack
) -> Lifetime:
    """Lock the folder until `entered` is left, and mark a new run as started."""
    with signals.defer():  # a signal between lock and status would leave the status of an earlier process
        entered.enter_context(run.lock())
        if not resume and (run.path / "config.yaml").exists():
            raise InUse(f"{run.path} already holds a run")
        life = entered.enter_context(track_lifetime(run, config))
        if not resume:
            life.begin()
    if not resume:
        run.start(to_dict(config), overrides)
    return life


def _set_threads(run: RunFolder, config: Config, parts: Parts) -> list[str]:
    """Choose the number of threads; returns what `use_threads_of` does.

    It decides the last bits of a result, so a resumed run keeps its own.
    """
    return use_threads_of(run, run.read_threads() or choose_threads(config, parts.complexity), parts.device)


def _log_parts(config: Config, parts: Parts) -> None:
    """Log what is frozen, and which parts of the network have a learning rate of their own."""
    if frozen := parts.complexity.frozen_parameters:
        names = ", ".join(config.model.freeze)
        log.info("%s of %s parameters are frozen: %s", f"{frozen:,}", f"{parts.complexity.parameters:,}", names)
    for part, rate in config.optimizer.rates.items():
        log.info("the learning rate of %s is %g times that of the rest, %g", part, rate, config.optimizer.lr)


def _record_environment(run: RunFolder) -> None:
    if run.read_threads() is None:  # a new run, or one that was killed before this point or has a damaged file
        plugins = describe_plugins()
        write_json(run.path / "env.json", describe_environment() | ({"plugins": plugins} if plugins else {}))


def _record_problems(run: RunFolder, dataset: Dataset, notes: Sequence[str]) -> None:
    """Write and log what a reader of the results must know about the data and, from `notes`, about the machine."""
    write_skipped(run, dataset)
    for note in (*notes, *dataset.notes):
        log.warning("%s", note)


def _record(config: Config, run: RunFolder, parts: Parts, outcome: Outcome) -> list[Picture]:
    """Write the result of the test, if there was one; return the pictures to draw."""
    test, dataset = outcome.test, parts.dataset
    pictures = []
    if test is not None:
        serve = partial(make_batches, dataset=dataset, config=config, device=parts.device)
        pictures = write_result_files(run.path, test, dataset.test, dataset, model=parts.model, serve=serve)
    monitor = config.trainer.monitor or get_task(parts.model).monitor
    return pictures + write_run_files(run, outcome, dataset.test, monitor)


def _summarize_run(config: Config, parts: Parts, outcome: Outcome) -> dict[str, Any]:
    dataset, complexity = parts.dataset, parts.complexity
    images = outcome.epochs * len(dataset.train)
    return {
        "model": config.model.name,
        "data": config.data.name,
        "task": get_task(parts.model).name,
        "seed": config.seed,
        **({"fold": dataset.fold.number, "folds": dataset.fold.total} if dataset.fold else {}),
        "parameters": complexity.parameters,
        **_summarize_frozen(complexity),
        "dense_share": round(complexity.dense_share, 6),
        "weight_bytes": complexity.weight_bytes,
        "macs": complexity.macs,
        "flops": complexity.flops,
        "activation_bytes": complexity.activation_bytes,
        "receptive_field": max(complexity.receptive_field),
        "depth": complexity.depth,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        **(_summarize_test(outcome.test, dataset) if outcome.test else {}),
        "train_seconds": round(outcome.train_seconds, 3),
        "images_per_second": round(images / outcome.train_seconds, 1),
        "device": str(parts.device),
        "threads": torch.get_num_threads(),
        "train_set_sha256": dataset.pool,
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
    }


def _summarize_frozen(complexity: Summary) -> dict[str, int]:
    """How many parameters `model.freeze` has left to train; empty if it is all of them."""
    frozen = complexity.frozen_parameters
    return {"trainable_parameters": complexity.parameters - frozen, "frozen_parameters": frozen} if frozen else {}


def _summarize_test(test: Evaluation, dataset: Dataset) -> dict[str, Any]:
    scores = test.compute_scores()
    if test.classified is not None:
        scores |= compute_accuracy_interval(test.classified.confusion)
    return {
        **{f"test/{name}": value for name, value in scores.items()},
        "test_images": len(dataset.test),
        "test_images_in_training": count_leaks(dataset),
        **({} if dataset.near_tests is None else {"test_images_near_training": dataset.near_tests}),
        "test_labels_sha256": hashlib.sha256(dataset.test.labels.numpy().tobytes()).hexdigest(),
        "test_set_sha256": digest(dataset.info, dataset.test),
    }


def preview(config: Config, folder: Path) -> Path:
    """Draw training images and their augmented versions to `augmented.png` in a folder; return its path."""
    dataset = load_dataset(config)
    log.info("%s", dataset.describe())
    title = f"augment={config.augment.name} on {dataset.info.name}: training images, and their versions in each epoch"
    return draw_preview(folder, dataset, make_augmentation(config, dataset.info, torch.device("cpu")), title)
