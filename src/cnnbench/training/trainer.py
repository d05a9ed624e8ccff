"""`fit`: a run from its first step to its only look at the test set."""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cnnbench.bars import open_bar
from cnnbench.data import Batches
from cnnbench.metrics import format_metric, list_metrics
from cnnbench.processes import signals
from cnnbench.runs.folder import PRUNED, RunFolder
from cnnbench.runs.history import History
from cnnbench.training.device import make_autocast
from cnnbench.training.ema import WeightAverage
from cnnbench.training.epoch import TrainingPass
from cnnbench.training.evaluation import Evaluation, evaluate
from cnnbench.training.graph import StepGraph, make_capturable
from cnnbench.training.optim import Schedule
from cnnbench.training.pace import Pace
from cnnbench.training.parts import set_training_mode
from cnnbench.training.progress import Progress
from cnnbench.training.ranks import distribute
from cnnbench.training.settings import Settings
from cnnbench.training.state import State
from cnnbench.training.step import Stepper
from cnnbench.training.tasks import get_task
from cnnbench.training.torch_optimizers import Optimizer

log = logging.getLogger("cnnbench")


class Pruned(Exception):
    """Raised by `on_epoch` to end a run that is not worth finishing."""

    state = PRUNED


@dataclass(frozen=True)
class Splits:
    """The batches of a run."""

    train: Batches
    val: Batches | None  # None for a run without a validation split
    test: Batches | None  # None in a search, which chooses by validation


@dataclass(frozen=True)
class Outcome:
    """The result of training."""

    rows: list[dict[str, Any]]  # one per epoch, as in `metrics.csv`
    epochs: int
    best_epoch: int  # whose weights were tested, counted from 1
    test: Evaluation | None  # None if nothing was tested
    train_seconds: float  # in training passes, without evaluations, checkpoints and figures


Passes = Generator[TrainingPass, dict[str, float] | None, Outcome]


def build_state(
    run: RunFolder,
    model: nn.Module,
    data: Splits,
    settings: Settings,
    *,
    optimizer: Optimizer,
    record: Mapping[str, Any],
) -> State:
    """The state of a run before its first step; `State.restore` moves it to its last checkpoint. Nothing is written.

    All ranks of a run call this together.

    Args:
        model: on the device of the batches.
        record: what every checkpoint holds besides its position, such as how images were prepared.
    """
    stepper, task = build_stepper(model, data.train, settings, optimizer), get_task(model)
    history = History(run, settings.monitor or task.monitor)
    progress = Progress.start(data.train, task, settings.accumulate)
    return State(run, model, stepper, data.train.device, record, settings.keep, history, progress)


def build_stepper(model: nn.Module, batches: Batches, settings: Settings, optimizer: Optimizer) -> Stepper:
    """The stepper that trains a model on these batches, which are on its device."""
    task, device, rank = get_task(model), batches.device, batches.rank
    weights = settings.class_weights
    if settings.graph:
        make_capturable(optimizer)
    forward = distribute(model, device) if rank.count > 1 else model
    return Stepper(
        task=task,
        forward=torch.compile(forward) if settings.compile else forward,
        parameters=list(model.parameters()),
        optimizer=optimizer,
        autocast=make_autocast(device, settings.precision),
        scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16"),
        label_smoothing=settings.label_smoothing,
        clip_norm=settings.clip_norm,
        class_weights=None if weights is None else torch.tensor(weights, device=device),
        # Rank 0 alone measures and saves.
        average=None if settings.ema is None or rank.number else WeightAverage(model, settings.ema),
        accumulate=settings.accumulate,
        graph=StepGraph(batches.batch_size * settings.accumulate) if settings.graph else None,
        rank=rank,
    )


def fit(
    state: State,
    data: Splits,
    settings: Settings,
    schedule: Schedule,
    *,
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> Passes:
    """Train, keep the best and the last weights, then test the best ones once.

    The best epoch is the first with the best monitor on the validation split; without one it is the last epoch.

    Yields each epoch's training before it begins; sent None, as by `train_alone`, the run trains by itself.

    Args:
        state: where training starts; its model ends with the weights that were tested.
        on_epoch: called with the rows of the epochs before `state`, then with each epoch's row once it is saved.
            What it raises ends the run.

    Raises:
        Diverged: a loss, in training, validation or the test, or a weight became infinite or not a number.
        KeyboardInterrupt, Terminated: by a signal, after the current step was finished and saved.
        OSError: a checkpoint could not be written; earlier ones are intact.
    """
    history, stepper, images = state.history, state.stepper, len(data.train.labels)
    measure = partial(evaluate, task=stepper.task, num_classes=settings.num_classes, autocast=stepper.autocast)
    state.complete()
    for row in history.rows:
        on_epoch(row)
    done = history.epochs * images + sum(state.progress.sizes[: state.progress.steps])
    save_if_requested = _make_saver(state, settings.checkpoint_minutes)
    with (
        signals.defer(),
        open_bar(total=settings.epochs * images, initial=done, unit="img", unit_scale=True) as bar,
    ):
        advance = _make_advance(state, bar, between=save_if_requested)
        for epoch in range(history.epochs, settings.epochs):
            if settings.patience is not None and epoch - history.best >= settings.patience:
                log.info("stopped early: no better %s in %d epochs", history.monitor, settings.patience)
                break
            bar.set_description(f"epoch {epoch + 1}/{settings.epochs}", refresh=False)
            set_training_mode(state.model)
            request = TrainingPass(state, epoch, data.train, settings, schedule, advance)
            # A caller that has trained the epoch together with other runs sends what `run` would return.
            trained = (yield request) or request.run()
            validated = {}
            if data.val is not None:
                of = f"validation images after epoch {epoch + 1}"
                validated = measure(state.tested, data.val, of=of, between=save_if_requested).compute_scores()
            row = _make_row(trained, validated, state, settings.lr, schedule)
            state.end_epoch(row)
            log.info("%s", _describe(row, settings.epochs))
            on_epoch(row)  # after the save, because it may end the run
            signals.check()
        best = state.load_best()
        # The model holds the best weights now, so nothing is saved from here on.
        test = None
        if data.test is not None:
            test = measure(state.model, data.test, keep_probabilities=True, of="test images", between=signals.check)
    return Outcome(history.rows, history.epochs, best, test, history.seconds)


def follow(state: State, data: Splits, settings: Settings, schedule: Schedule) -> None:
    """Train as a rank other than 0: compute its part of each step. Rank 0 saves and measures, and may end the run."""
    for epoch in range(state.history.epochs, settings.epochs):
        set_training_mode(state.model)
        TrainingPass(state, epoch, data.train, settings, schedule, advance=lambda count, loss: None).run()
        state.progress = state.progress.start_next()


def _make_row(
    trained: Mapping[str, float], validated: Mapping[str, float], state: State, lr: float, schedule: Schedule
) -> dict[str, Any]:
    """An epoch's row of `metrics.csv`."""
    epoch, progress = state.history.epochs + 1, state.progress
    steps = epoch * len(progress.sizes)
    last_lr = lr * schedule(steps - 1)
    rates = {group["part"]: group["rate"] for group in state.stepper.optimizer.param_groups if "part" in group}
    # Columns of the validation split are there without one too, so that the tables of all runs have the same.
    metrics = [metric.name for metric in list_metrics(detail=False)] if state.stepper.task.has_classes else []
    return {
        "epoch": epoch,
        "step": steps,
        "lr": last_lr,
        **{f"lr/{part}": last_lr * rate for part, rate in rates.items()},
        **{f"train/{name}": value for name, value in trained.items()},
        **{f"val/{name}": validated.get(name) for name in ["loss", *metrics]},
        "seconds": round(progress.seconds, 4),
        "images_per_second": round(sum(progress.sizes) / progress.seconds, 1),
    }


def _make_advance(
    state: State, bar: "tqdm[Any]", *, between: Callable[[], None]
) -> Callable[[int, float | None], None]:
    """Make a function to call after each step with its number of images and, now and then, its loss."""
    # On another device, threads do not wait for one another.
    pace = Pace(torch.get_num_threads() if state.device.type == "cpu" else 1)

    def advance(count: int, loss: float | None) -> None:
        bar.update(count)
        if loss is not None:  # the step waited for the device, so its time is known too
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            pace.check(state.progress.steps, state.progress.seconds)
        between()

    return advance


def _make_saver(state: State, minutes: float | None) -> Callable[[], None]:
    """Make a function to call between two steps: it saves if a signal or the clock says so, and ends on a signal."""
    saved = time.monotonic()

    def save_if_requested() -> None:
        nonlocal saved
        due = minutes is not None and time.monotonic() - saved > 60 * minutes
        if not due and not signals.is_requested():
            return
        state.save()
        saved = time.monotonic()
        log.info("saved after epoch %d, step %d of the next", state.history.epochs, state.progress.steps)
        signals.confirm_save()
        signals.check()

    return save_if_requested


def _describe(row: Mapping[str, Any], epochs: int) -> str:
    """An epoch's row as a line of the log."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for key, value in row.items():
        split, _, name = key.partition("/")
        if name and split != "lr" and value is not None:
            parts.append(f"{'' if split == 'train' else 'val '}{name} {format_metric(key, value)}")
    return "  ".join([*parts, f"{row['seconds']:.2f} s"])
