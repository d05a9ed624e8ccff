"""`fit`: a run from its first step to the one look at the test set."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cnnbench import registry
from cnnbench.metrics import text_of
from cnnbench.processes import signals
from cnnbench.runs.folder import PRUNED, RunFolder
from cnnbench.runs.history import History
from cnnbench.trackers import Trackers
from cnnbench.training.device import autocast
from cnnbench.training.ema import WeightAverage
from cnnbench.training.loop import Batches, Evaluation, Progress, Stepper, evaluate, train_one_epoch
from cnnbench.training.optim import Schedule
from cnnbench.training.state import State
from cnnbench.training.tasks import task_of

log = logging.getLogger("cnnbench")


class Pruned(Exception):
    """Raised by an `on_epoch`: the run is not worth going on with."""

    state = PRUNED


@dataclass(frozen=True)
class Outcome:
    """What training came to.

    Attributes:
        rows: a row an epoch, as in `metrics.csv`.
        epochs: how many there were.
        best_epoch: whose weights were tested, counted from 1.
        test: None where there was nothing to test on.
        train_seconds: time in training passes, without evaluations, checkpoints and figures.
    """

    rows: list[dict[str, Any]]
    epochs: int
    best_epoch: int
    test: Evaluation | None
    train_seconds: float


def fit(
    run: RunFolder,
    model: nn.Module,
    *,
    train: Batches,
    val: Batches | None,
    test: Batches | None,
    optimizer: torch.optim.Optimizer,
    lr: float,
    schedule: Schedule,
    num_classes: int,
    seed: int,
    epochs: int,
    record: Mapping[str, Any],
    begin: Callable[[], Trackers],
    precision: str = "fp32",
    compile: bool = False,
    label_smoothing: float = 0.0,
    clip_norm: float | None = None,
    class_weights: Sequence[float] | None = None,
    monitor: str | None = None,
    patience: int | None = None,
    ema: float | None = None,
    checkpoint_minutes: float | None = None,
    keep: int = 0,
    accumulate: int = 1,
    resume: bool = False,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> Outcome:
    """Train, keep the best and the last weights, then test the best ones once.

    The best epoch is the first with the best `monitor` on the validation split. Without a validation split it is
    the last epoch, whatever the others were.

    Args:
        model: already on the device of the batches; it ends with the weights that were tested.
        test: None tests nothing, as a search does, which chooses by validation.
        monitor: what chooses the best epoch; None leaves it to the model's task.
        class_weights: what each class counts in the training loss; None where all count alike.
        record: what every checkpoint says besides its position, such as how images were prepared; a run resumes
            only from a checkpoint that says the same.
        patience: stop after this many epochs without a better monitor.
        ema: decay of a moving average of the weights, which is then what is validated, kept as the best, and tested.
        checkpoint_minutes: also save when this long has passed within an epoch.
        keep: checkpoints of past epochs that stay beside last and best.
        begin: called once all has been checked and before anything is written; returns where the epochs go besides.
        accumulate: batches of `train` that a step takes.
        resume: go on from the run's last checkpoint, wherever in an epoch it was written.
        on_epoch: called with each finished epoch's row once it is saved, and first with those of the epochs that a
            resumed run has behind it; what it raises ends the run.

    Raises:
        Diverged: a loss, in training, validation or the test, or a weight became infinite or not a number.
        KeyboardInterrupt, Terminated: by a signal, after the step under way was finished and saved.
        ValueError: `resume`, and no checkpoint can be read, or it is of another run.
        OSError: a checkpoint could not be written; those written before are intact.
    """
    device = train.device
    context = autocast(device, precision)
    task = task_of(model)
    step = Stepper(
        task=task,
        forward=torch.compile(model) if compile else model,
        parameters=list(model.parameters()),
        optimizer=optimizer,
        autocast=context,
        scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
        label_smoothing=label_smoothing,
        clip_norm=clip_norm,
        class_weights=None if class_weights is None else torch.tensor(class_weights, device=device),
        average=None if ema is None else WeightAverage(model, ema),
        accumulate=accumulate,
    )
    start = partial(Progress.start, train, task, accumulate)
    history = History(run, monitor or task.monitor)
    state = State(run, model, step, device, record, keep, history, start())
    save_if_asked = _saver(state, checkpoint_minutes)
    measure = partial(evaluate, task=task, num_classes=num_classes, autocast=context, between=save_if_asked)
    if resume:
        state.restore()
    logger = begin()
    state.complete()
    if on_epoch:
        for row in history.rows:
            on_epoch(row)
    done = history.epochs * len(train.labels) + state.progress.steps * train.batch_size * accumulate
    # disable=None: a bar on a terminal, silence elsewhere.
    with (
        signals.deferred(),
        tqdm(total=epochs * len(train.labels), initial=done, unit="img", unit_scale=True, disable=None) as bar,
    ):

        def advance(images: int, loss: float | None) -> None:
            bar.update(images)
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            save_if_asked()

        for epoch in range(history.epochs, epochs):
            if patience is not None and epoch - history.best >= patience:
                log.info("stopped early: no better %s in %d epochs", history.monitor, patience)
                break
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            model.train()
            trained = train_one_epoch(
                step, train, state.progress, epoch=epoch, seed=seed, lr=lr, schedule=schedule, advance=advance
            )
            of = f"validation images after epoch {epoch + 1}"
            validated = None if val is None else measure(state.tested, val, of=of)
            steps = (epoch + 1) * len(state.progress.losses)
            row = {"epoch": epoch + 1, "step": steps, "lr": lr * schedule(steps - 1), **_scores(trained, validated)}
            row |= _speed(state.progress.seconds, len(train.labels))
            history.add(row)
            state.progress = start()
            state.save()
            state.finish_epoch()
            logger.log(row)
            log.info("%s", _line(row, epochs))
            if on_epoch:
                on_epoch(row)
            signals.check()
        best = state.load_best()
        # The model holds the best weights now, so nothing is saved any more.
        tested = None
        if test is not None:
            tested = measure(model, test, keep_predictions=True, between=signals.check, of="test images")
    return Outcome(history.rows, history.epochs, best, tested, history.seconds)


def _saver(state: State, minutes: float | None) -> Callable[[], None]:
    """What is called between any two steps: saves if a signal or the clock asks for it, and ends if a signal does."""
    saved = time.monotonic()

    def save_if_asked() -> None:
        nonlocal saved
        due = minutes is not None and time.monotonic() - saved > 60 * minutes
        if not due and not signals.requested():
            return
        state.save()
        saved = time.monotonic()
        log.info("saved after epoch %d, step %d of the next", state.history.epochs, state.progress.steps)
        signals.saved()
        signals.check()

    return save_if_asked


def _scores(trained: Mapping[str, float], validated: Evaluation | None) -> dict[str, float | None]:
    metrics = registry.names("metric") if "accuracy" in trained else []
    val = validated.scores() if validated else {}
    return {
        **{f"train/{name}": value for name, value in trained.items()},
        **{f"val/{name}": val.get(name) for name in ("loss", *metrics)},
    }


def _speed(seconds: float, images: int) -> dict[str, float]:
    return {"seconds": round(seconds, 4), "images_per_second": round(images / seconds, 1)}


def _line(row: Mapping[str, Any], epochs: int) -> str:
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for key, value in row.items():
        split, _, name = key.partition("/")
        if name and value is not None:
            parts.append(f"{'' if split == 'train' else 'val '}{name} {text_of(key, value)}")
    return "  ".join([*parts, f"{row['seconds']:.2f} s"])
