"""One run, from its config to its finished folder."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from cnnbench.config.schema import Config, to_dict
from cnnbench.data import Dataset
from cnnbench.data.contents import digest
from cnnbench.experiment.build import Parts, build_parts, choose_threads, prepare_training, use_threads_of
from cnnbench.experiment.data_record import count_leaks, describe_own_data, read_near_tests
from cnnbench.experiment.factories import make_batches
from cnnbench.experiment.group import RunGenerator, run_group
from cnnbench.experiment.lifetime import Lifetime, track_lifetime
from cnnbench.experiment.ranks import start_ranks
from cnnbench.experiment.result_files import prepare_samples, write_result_files, write_run_files, write_skipped
from cnnbench.experiment.starting_weights import settle_start
from cnnbench.metrics import compute_accuracy_interval
from cnnbench.plugins.loading import describe_plugins
from cnnbench.processes import signals
from cnnbench.reproducibility import describe_environment, set_deterministic
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.pictures import Draw, Picture, draw_in_turn
from cnnbench.storage.atomic import InUse
from cnnbench.storage.plain_data import write_json
from cnnbench.trackers import open_trackers
from cnnbench.training.epoch import train_alone
from cnnbench.training.evaluation import Evaluation
from cnnbench.training.tasks import get_task
from cnnbench.training.trainer import Outcome

log = logging.getLogger("cnnbench")


class RunOptions(TypedDict, total=False):
    """How a config is run; `start_job` has the defaults."""

    resume: bool  # continue the run of the same config that the folder holds
    test: bool  # measure the best weights on the test split; a search does not, so its summary has no `test/…`
    parts: Parts | None  # those of the config, if they are built already
    on_epoch: Callable[[Mapping[str, Any]], None]  # as in `fit`
    draw: Draw  # draws all pictures of the run


def run_job(config: Config, path: Path, overrides: Sequence[str], **options: Unpack[RunOptions]) -> dict[str, Any]:
    """Train and test one config in its folder, and draw its pictures; return the summary, as in `summary.json`.

    `start_job` describes the arguments and the errors.
    """
    job = start_job(config, path, overrides, **options)
    if not config.sweep.together:
        return train_alone(job)
    # Alone, too, the stacked step is used: it rounds differently from the ordinary one.
    (member,) = run_group([job])
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
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None,
    draw: Draw = draw_in_turn,
) -> RunGenerator:
    """The run as a generator that pauses before each epoch, so that `run_group` can train several runs by one step.

    Args:
        path: a new folder or, with `resume`, one that holds a run of the same config.
        overrides: what the user typed, for the record.
        resume, test, parts, on_epoch, draw: `RunOptions` describes them.

    Raises:
        InUse: another process works in the folder, or has put a run there.
        CannotGoOn, NoneReadable: it cannot be resumed in this way, or from any checkpoint; nothing has been written.
        Exception: what stopped the run; `status.json` and `train.log` record it too.
    """
    run = RunFolder(path)
    set_deterministic(config.trainer.deterministic, compiled=config.trainer.compile)
    with ExitStack() as entered:
        life = _claim_folder(run, config, overrides, resume=resume, entered=entered)
        # `config` is what the folder records. A resumed run is built from `build_config`: the same data, and no
        # starting weights once there is a checkpoint.
        build_config, near_tests = _make_build_config(config, run) if resume else (config, None)
        # Before the data are loaded: the other processes import torch in the meantime.
        others = entered.enter_context(start_ranks(build_config, path, resume=resume))
        parts = parts or build_parts(build_config, test=test, within_memory=resume)
        if near_tests is not None:  # of the same data, as `prepare_training` makes sure
            parts = replace(parts, dataset=replace(parts.dataset, near_tests=near_tests))
        notes = use_threads_of(run, parts.device, choose_threads(config, parts.complexity))
        _log_parts(config, parts)
        state, train = prepare_training(config, run, parts, test=test, rank=others.join(parts.device))
        if resume:
            state.restore()  # before anything is written: if no checkpoint can be read, the folder stays as it was
            life.resume(to_dict(config), overrides)
        others.let_restore()
        _record_start(run, parts, notes)
        draw(prepare_samples(run, parts.dataset), wait=False)  # while the network trains
        known, options = state.history.epochs, config.logger.options
        opened = open_trackers(options, path, to_dict(config), resume=resume, problems=life.notes)
        logger = entered.enter_context(opened)

        def report_epoch(row: Mapping[str, Any]) -> None:
            if row["epoch"] > known:  # `fit` repeats earlier epochs, which the trackers have
                logger.log(row)
            on_epoch(row)

        outcome = yield from train(on_epoch=report_epoch)
        draw(_record_result(config, run, parts, outcome))
        run.write_summary(summary := _summarize_run(config, parts, outcome))
        logger.finish(summary)
    return summary


def _make_build_config(config: Config, run: RunFolder) -> tuple[Config, int | None]:
    """The config that a resumed run is built from, and its recorded `near_tests`, unless they must be counted again."""
    near_tests = read_near_tests(run)
    if near_tests and config.data.check == "fail":
        near_tests = None  # count again, because the check refuses by what it finds
    return settle_start(describe_own_data(config, run.path, check=near_tests is None), run), near_tests


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


def _log_parts(config: Config, parts: Parts) -> None:
    dataset, complexity = parts.dataset, parts.complexity
    log.info("%s", dataset.describe())
    log.info("%s on %s, %s", config.model.name, dataset.info.name, parts.device)
    if frozen := complexity.frozen_parameters:
        names = ", ".join(config.model.freeze)
        log.info("%s of %s parameters are frozen: %s", f"{frozen:,}", f"{complexity.parameters:,}", names)
    for part, rate in config.optimizer.rates.items():
        log.info("the learning rate of %s is %g times that of the rest, %g", part, rate, config.optimizer.lr)


def _record_start(run: RunFolder, parts: Parts, notes: Sequence[str]) -> None:
    """Write what is known before the first step; log the notes on the machine and on the data."""
    if run.read_threads() is None:  # a new run, or one that was killed before this point or has a damaged file
        plugins = describe_plugins()
        write_json(run.path / "env.json", describe_environment() | ({"plugins": plugins} if plugins else {}))
    if parts.start is not None:
        parts.start.record(run)
    write_skipped(run, parts.dataset)
    for note in (*notes, *parts.dataset.notes):
        log.warning("%s", note)


def _record_result(config: Config, run: RunFolder, parts: Parts, outcome: Outcome) -> list[Picture]:
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
    images, frozen = outcome.epochs * len(dataset.train), complexity.frozen_parameters
    trainable = {"trainable_parameters": complexity.parameters - frozen, "frozen_parameters": frozen}
    return {
        "model": config.model.name,
        "data": config.data.name,
        "task": get_task(parts.model).name,
        "seed": config.seed,
        **({"fold": dataset.fold.number, "folds": dataset.fold.total} if dataset.fold else {}),
        "parameters": complexity.parameters,
        **(trainable if frozen else {}),
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
