"""The state of a run between two steps: what a checkpoint holds, and what a resumed run starts from."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.runs.folder import RunFolder
from cnnbench.runs.history import History
from cnnbench.training import checkpoint
from cnnbench.training.progress import ADVICE, Diverged, Progress
from cnnbench.training.step import Stepper

log = logging.getLogger("cnnbench")


@dataclass
class State:
    """A run between two steps, and the folder where it is saved."""

    run: RunFolder
    model: nn.Module
    stepper: Stepper
    device: torch.device
    record: Mapping[str, Any]  # stored in every checkpoint; one with another record is refused
    keep: int  # how many checkpoints of past epochs stay beside the last and the best
    history: History  # the finished epochs
    progress: Progress  # of the current epoch

    @property
    def tested(self) -> nn.Module:
        """The model that is validated, tested and kept as the best: the average, if there is one."""
        return self.stepper.average.model if self.stepper.average else self.model

    def save(self) -> None:
        """Write the last checkpoint; the one before it becomes `previous`.

        Raises:
            Diverged: a loss of the epoch or a weight is not finite: such weights never replace good ones.
        """
        self.progress.check_losses(self.history.epochs)
        # One wait for the device, not one for each weight.
        finite = [value.isfinite().all() for value in self.model.parameters()]
        if finite and not bool(torch.stack(finite).all()):
            raise Diverged(f"a weight became infinite or not a number after epoch {self.history.epochs}. {ADVICE}")
        tensors = {
            **checkpoint.collect_model_tensors(self.model),
            **checkpoint.collect_optimizer_tensors(self.stepper.optimizer, self.model),
            **_collect_rng_tensors(self.device),
            "epoch.losses": self.progress.losses,
        }
        if self.stepper.average:
            tensors |= checkpoint.collect_model_tensors(self.stepper.average.model, "ema")
        if self.progress.correct is not None:
            tensors["epoch.correct"] = self.progress.correct
        folder = self.run.checkpoints
        # First, so that there is a good checkpoint at every moment.
        checkpoint.keep_previous(folder)
        checkpoint.save(folder, checkpoint.LAST, tensors=tensors, record=self._make_record())

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Add the row of a trained epoch to the history, and save the run before its next epoch."""
        self.history.add(row)
        self.progress = self.progress.start_next()
        self.save()  # first: after a kill, `complete` writes what follows from the checkpoint
        self.write_epoch()

    def write_epoch(self) -> None:
        """Write what belongs to the last finished epoch besides its checkpoint; idempotent."""
        epoch, folder = self.history.epochs, self.run.checkpoints
        if self.history.best == epoch:
            tensors = checkpoint.collect_model_tensors(self.tested)
            checkpoint.save(folder, checkpoint.BEST, tensors=tensors, record=self._make_record())
        checkpoint.keep_epoch(folder, epoch, self.keep)
        self.history.write()

    def restore(self) -> None:
        """Return to the run's last checkpoint or, if that is damaged, to the previous one.

        Nothing is written, except that a damaged last checkpoint is replaced.

        Raises:
            ValueError: no checkpoint can be read, or it belongs to another run.
        """
        loaded = checkpoint.load_newest(self.run.checkpoints, accept=self._check_same_run)
        if loaded is None:
            log.info("no checkpoint yet: starting from the beginning")
            return
        tensors, record = loaded
        checkpoint.load_model(self.model, tensors)
        checkpoint.load_optimizer(self.stepper.optimizer, self.model, tensors)
        if self.stepper.average:
            checkpoint.load_model(self.stepper.average.model, tensors, "ema")
        self.stepper.scaler.load_state_dict(record["scaler"])
        self.history.restore(record)
        self.progress.steps, self.progress.seconds = record["step"], record["seconds"]
        self.progress.losses.copy_(_check_shape(tensors, "epoch.losses", self.progress.losses))
        if self.progress.correct is not None:
            self.progress.correct.copy_(_check_shape(tensors, "epoch.correct", self.progress.correct))
        _restore_rng(tensors, self.device)
        log.info("resumed after epoch %d, step %d of the next", self.history.epochs, self.progress.steps)

    def complete(self) -> None:
        """Write the files of the last epoch that are missing if the process was killed right after its checkpoint."""
        if self.history.epochs and not self.progress.steps:
            self.write_epoch()
        self.history.write()

    def load_best(self) -> int:
        """Load the best epoch's weights into the model; return the epoch, counted from 1.

        Raises:
            ValueError: neither the best checkpoint nor another one of that epoch can be read.
        """
        wanted, folder = self.history.best, self.run.checkpoints
        problems = []
        kept = sorted(path.stem for path in folder.glob("epoch_*.safetensors"))
        # Any checkpoint at the end of the best epoch has the same weights as `best`, which may be damaged.
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

    def _check_same_run(self, found: Mapping[str, Any]) -> None:
        """Raise a ValueError if a checkpoint's record differs from this run's."""
        for part, value in json.loads(json.dumps(self.record)).items():  # as read back: lists instead of tuples
            there = found.get(part)
            if there != value:
                keys = sorted(key for key in value if not isinstance(there, dict) or there.get(key) != value[key])
                differing = ", ".join(map(str, keys))
                raise ValueError(
                    f"the checkpoint belongs to another run: {part} differs in {differing}. (Another version of "
                    "cnnbench may have written it: start the run again.)"
                )
        if lacking := sorted(self._describe_position().keys() - found.keys()):
            raise ValueError(f"the checkpoint cannot be resumed: it lacks {', '.join(lacking)}")

    def _make_record(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        # The number of threads is for the reader, and never compared.
        return {**self._describe_position(), "threads": torch.get_num_threads()}

    def _describe_position(self) -> dict[str, Any]:
        return {
            **self.record,
            **self.history.record(),
            "step": self.progress.steps,
            "seconds": self.progress.seconds,
            "scaler": self.stepper.scaler.state_dict(),
        }


def _collect_rng_tensors(device: torch.device) -> dict[str, Tensor]:
    # Each step seeds the generators of in-model noise; draws between two steps depend on their state.
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def _restore_rng(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)


def _check_shape(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    if name not in tensors or tensors[name].shape != like.shape:
        raise ValueError(f"the checkpoint belongs to another run: it has no {name!r} of shape {tuple(like.shape)}")
    return tensors[name]
