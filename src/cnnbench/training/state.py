"""Everything a run has come to between two of its steps: what a checkpoint holds, and a resumed run starts from."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.results import RunFolder
from cnnbench.training import checkpoint
from cnnbench.training.loop import Progress, Stepper, stop_if_diverged

log = logging.getLogger("cnnbench")


@dataclass
class State:
    """A run between two steps, and where it is kept.

    Attributes:
        record: what every checkpoint says besides its position; a checkpoint that says something else is of another
            run, and is refused.
        monitor: what chooses the best epoch.
        keep: checkpoints of past epochs that stay beside last and best.
        rows: of the finished epochs, as in `metrics.csv`.
        progress: of the epoch after them.
    """

    run: RunFolder
    model: nn.Module
    step: Stepper
    device: torch.device
    record: Mapping[str, Any]
    monitor: str
    keep: int
    rows: list[dict[str, Any]]
    progress: Progress

    @property
    def tested(self) -> nn.Module:
        """The weights that are validated, tested and kept as the best: the averages, where there are any."""
        return self.step.average.model if self.step.average else self.model

    def save(self) -> None:
        """Write the last checkpoint; the one before it stays as `previous`.

        Raises:
            Diverged: a loss of the epoch is not finite; such weights never take the place of good ones.
        """
        stop_if_diverged(self.progress.losses[: self.progress.steps], len(self.rows))
        tensors = {
            **checkpoint.model_tensors(self.model),
            **checkpoint.optimizer_tensors(self.step.optimizer, self.model),
            **_rng_tensors(self.device),
            "epoch.losses": self.progress.losses,
        }
        if self.step.average:
            tensors |= checkpoint.model_tensors(self.step.average.model, "ema")
        if self.progress.confusion is not None:
            tensors["epoch.confusion"] = self.progress.confusion
        folder = self.run.checkpoints
        checkpoint.keep_previous(folder)
        checkpoint.save(folder, checkpoint.LAST, tensors=tensors, record=self._position())

    def finish_epoch(self) -> None:
        """Write what belongs to the last finished epoch besides its checkpoint; doing it twice changes nothing."""
        epoch, folder = len(self.rows), self.run.checkpoints
        if best_epoch(self.rows, self.monitor) == epoch:
            tensors = checkpoint.model_tensors(self.tested)
            checkpoint.save(folder, checkpoint.BEST, tensors=tensors, record=self._position())
        checkpoint.keep_epoch(folder, epoch, self.keep)
        self.run.write_metrics(self.rows)

    def restore(self) -> None:
        """Put the run's last checkpoint, or the one before where that is damaged, into model, optimizer and all else.

        Raises:
            ValueError: no checkpoint can be read, or it is of another run.
        """
        loaded = checkpoint.load_newest(self.run.checkpoints)
        if loaded is None:
            log.info("no checkpoint yet: starting from the beginning")
            return
        tensors, record = loaded
        _check_same_run(record, self.record)
        checkpoint.load_model(self.model, tensors)
        checkpoint.load_optimizer(self.step.optimizer, self.model, tensors)
        if self.step.average:
            checkpoint.load_model(self.step.average.model, tensors, "ema")
        self.step.scaler.load_state_dict(record["scaler"])
        self.rows[:] = record["metrics"]
        self.progress.steps, self.progress.seconds = record["step"], record["seconds"]
        self.progress.losses.copy_(_same_shape(tensors, "epoch.losses", self.progress.losses))
        if self.progress.confusion is not None:
            self.progress.confusion.copy_(_same_shape(tensors, "epoch.confusion", self.progress.confusion))
        _restore_rng(tensors, self.device)
        log.info("resumed after epoch %d, step %d of the next", len(self.rows), self.progress.steps)
        if self.rows and not self.progress.steps:
            self.finish_epoch()  # the run may have been killed before it had done so

    def load_best(self) -> int:
        """Put the best epoch's weights into the model; returns the epoch, counted from 1.

        Raises:
            ValueError: they are lost: neither the best checkpoint nor another one of that epoch can be read.
        """
        wanted, folder = best_epoch(self.rows, self.monitor), self.run.checkpoints
        problems = []
        kept = sorted(path.stem for path in folder.glob("epoch_*.safetensors"))
        for name in (checkpoint.BEST, checkpoint.LAST, checkpoint.PREVIOUS, *kept):
            try:
                tensors, record = checkpoint.load(folder, name)
            except ValueError as error:
                problems.append(str(error))
                continue
            if record["epoch"] == wanted and not record["step"]:
                if problems:
                    log.error("DAMAGED CHECKPOINT: %s; the best weights were found in %r", problems[0], name)
                averaged = any(key.startswith("ema.") for key in tensors)
                checkpoint.load_model(self.model, tensors, "ema" if averaged else "model")
                return wanted
        raise ValueError(f"the weights of the best epoch, {wanted}, are lost: {problems[0]}")

    def _position(self) -> dict[str, Any]:
        return {
            **self.record,
            "epoch": len(self.rows),
            "step": self.progress.steps,
            "seconds": self.progress.seconds,
            "metrics": self.rows,
            "scaler": self.step.scaler.state_dict(),
        }


def best_epoch(rows: Sequence[Mapping[str, Any]], monitor: str) -> int:
    """The best epoch so far, counted from 1: the first with the best monitor, or the last if there is none."""
    if rows[-1][monitor] is None:
        return len(rows)
    sign = -1 if monitor == "val/loss" else 1
    return 1 + max(range(len(rows)), key=lambda i: sign * rows[i][monitor])


def out_of_patience(rows: Sequence[Mapping[str, Any]], monitor: str, patience: int | None) -> bool:
    """Whether `patience` epochs have passed without a better monitor."""
    return patience is not None and bool(rows) and len(rows) - best_epoch(rows, monitor) >= patience


def _rng_tensors(device: torch.device) -> dict[str, Tensor]:
    """The generators that noise in a model draws from; each step seeds them, what comes between steps does not."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def _restore_rng(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)


def _check_same_run(found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        ValueError: naming the first part in which they differ.
    """
    for part, value in json.loads(json.dumps(own)).items():
        there = found.get(part)
        if there != value:
            keys = sorted(key for key in value if not isinstance(there, dict) or there.get(key) != value[key])
            raise ValueError(f"the checkpoint is of another run: {part} differs in {', '.join(map(str, keys))}")


def _same_shape(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    if name not in tensors or tensors[name].shape != like.shape:
        raise ValueError(f"the checkpoint is of another run: it has no {name!r} of shape {tuple(like.shape)}")
    return tensors[name]
