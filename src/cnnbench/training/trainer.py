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

from cnnbench.results import RunFolder
from cnnbench.training import checkpoint
from cnnbench.training.device import autocast
from cnnbench.training.loggers import Logger
from cnnbench.training.loop import Batches, Evaluation, Stepper, evaluate, train_one_epoch
from cnnbench.training.optim import Schedule
from cnnbench.training.tasks import task_of

log = logging.getLogger("cnnbench")


class Pruned(Exception):
    """Raised by an `on_epoch`: the run is not worth going on with."""


@dataclass(frozen=True)
class Outcome:
    """What training came to.

    Attributes:
        rows: a row an epoch, as in `metrics.csv`.
        best_epoch: whose weights were tested, counted from 1.
        test: None where there was nothing to test on.
        train_seconds: time in training passes, without evaluations, checkpoints and figures.
    """

    rows: list[dict[str, Any]]
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
    logger: Logger,
    precision: str = "fp32",
    compile: bool = False,
    label_smoothing: float = 0.0,
    clip_norm: float | None = None,
    class_weights: Sequence[float] | None = None,
    monitor: str | None = None,
    patience: int | None = None,
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
        record: what every checkpoint says besides its position, such as how images were prepared.
        patience: stop after this many epochs without a better monitor.
        resume: go on from the run's last checkpoint.
        on_epoch: called with each finished epoch's row, once it is saved; what it raises ends the run.

    Raises:
        Diverged: a loss became infinite or not a number.
        ValueError: `resume` and the checkpoint is damaged or of another model.
    """
    device = train.device
    context = autocast(device, precision)
    task = task_of(model)
    monitor = monitor or task.monitor
    measure = partial(evaluate, model, task=task, num_classes=num_classes, autocast=context)
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
    )
    rows = _resume(run, model, step) if resume else []
    total = epochs * len(train.labels)
    # disable=None: a bar on a terminal, silence elsewhere.
    with tqdm(total=total, initial=len(rows) * len(train.labels), unit="img", unit_scale=True, disable=None) as bar:

        def advance(images: int, loss: float | None) -> None:
            bar.update(images)
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

        for epoch in range(len(rows), epochs):
            if _out_of_patience(rows, monitor, patience):
                log.info("stopped early: no better %s in %d epochs", monitor, patience)
                break
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            model.train()
            started = time.perf_counter()
            trained = train_one_epoch(
                step,
                train,
                epoch=epoch,
                seed=seed,
                lr=lr,
                schedule=schedule,
                num_classes=num_classes,
                advance=advance,
            )
            seconds = time.perf_counter() - started
            validated = None if val is None else measure(val)
            rows.append(_row(epoch, len(train), optimizer, trained, validated, seconds, len(train.labels)))
            _save(run, model, step, rows, record, is_best=_best(rows, monitor) == len(rows))
            run.write_metrics(rows)
            logger.log(rows[-1])
            log.info("%s", _line(rows[-1], epochs))
            if on_epoch is not None:
                on_epoch(rows[-1])
    best_epoch = _best(rows, monitor)
    if best_epoch != len(rows):
        checkpoint.load_model(model, checkpoint.load(run.checkpoints, "best")[0])
    tested = None if test is None else measure(test, keep_predictions=True)
    return Outcome(rows, best_epoch, tested, sum(row["seconds"] for row in rows))


def _row(
    epoch: int,
    steps_per_epoch: int,
    optimizer: torch.optim.Optimizer,
    trained: Evaluation,
    validated: Evaluation | None,
    seconds: float,
    images: int,
) -> dict[str, Any]:
    train, val = trained.scores(), validated.scores() if validated else {}
    return {
        "epoch": epoch + 1,
        "step": (epoch + 1) * steps_per_epoch,
        "lr": optimizer.param_groups[0]["lr"],
        **{f"train/{name}": train[name] for name in ("loss", "accuracy") if name in train},
        **{f"val/{name}": val.get(name) for name in train},
        "seconds": round(seconds, 4),
        "images_per_second": round(images / seconds, 1),
    }


def _best(rows: Sequence[Mapping[str, Any]], monitor: str) -> int:
    """The best epoch so far, counted from 1: the first with the best monitor, or the last if there is none."""
    if rows[-1][monitor] is None:
        return len(rows)
    sign = -1 if monitor == "val/loss" else 1
    return 1 + max(range(len(rows)), key=lambda i: sign * rows[i][monitor])


def _out_of_patience(rows: Sequence[Mapping[str, Any]], monitor: str, patience: int | None) -> bool:
    return patience is not None and bool(rows) and len(rows) - _best(rows, monitor) >= patience


def _save(
    run: RunFolder,
    model: nn.Module,
    step: Stepper,
    rows: list[dict[str, Any]],
    record: Mapping[str, Any],
    *,
    is_best: bool,
) -> None:
    weights = checkpoint.model_tensors(model)
    position = {**record, "epoch": len(rows), "metrics": rows, "scaler": step.scaler.state_dict()}
    state = checkpoint.optimizer_tensors(step.optimizer, model)
    if is_best:
        checkpoint.save(run.checkpoints, "best", tensors=weights, record=position)
    checkpoint.save(run.checkpoints, "last", tensors={**weights, **state}, record=position)


def _resume(run: RunFolder, model: nn.Module, step: Stepper) -> list[dict[str, Any]]:
    """Put the last checkpoint into model, optimizer and scaler; returns the rows of the epochs before it."""
    if not (run.checkpoints / "last.json").exists():
        log.info("no checkpoint yet: starting from the beginning")
        return []
    tensors, record = checkpoint.load(run.checkpoints, "last")
    checkpoint.load_model(model, tensors)
    checkpoint.load_optimizer(step.optimizer, model, tensors)
    step.scaler.load_state_dict(record["scaler"])
    log.info("resumed after epoch %d", record["epoch"])
    return record["metrics"]


def _line(row: Mapping[str, Any], epochs: int) -> str:
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for key, value in row.items():
        split, _, name = key.partition("/")
        if name and value is not None:
            parts.append(f"{name} {value:.4f}" if split == "train" else f"{split} {name} {value:.4f}")
    return "  ".join([*parts, f"{row['seconds']:.2f} s"])
