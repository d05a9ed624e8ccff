"""One step, one epoch, one evaluation. Nothing in a step waits for the device or branches on a value in it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.metrics import confusion_of, scores
from cnnbench.reproducibility import key, seed_model_noise
from cnnbench.training.ema import WeightAverage
from cnnbench.training.optim import Schedule
from cnnbench.training.tasks import Task, split_outputs, training_loss

MOST_PROBABILITIES, TOP = 2**25, 10  # of a split: 128 MB. Where there are more, those of the likeliest classes are kept
HELPS = "A smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_epochs=1 usually helps"
LOOK_EVERY = 64  # steps between two looks at the loss on the host: often enough to stop a run that diverged


class Batches(Protocol):
    """What the loop needs of a loader; `cnnbench.data.Batches` is one."""

    batch_size: int
    device: torch.device
    labels: Tensor  # int64 (N,), in the order of the split

    def __len__(self) -> int:
        """Batches an epoch; only the last may be smaller than `batch_size`."""

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images float32 (N, C, H, W), or signals (N, C, L), and labels int64 (N,) of each batch of an epoch.

        Where training images are mixed, labels are float32 (N, K), the share of each class.

        Args:
            start: how many batches of the epoch to leave out; the others are the same to the bit.
        """


@dataclass
class Evaluation:
    """What one pass over a split came to.

    Attributes:
        loss: the task's, mean over the images.
        confusion: (K, K) counts, as `confusion_of` gives them; None for a task without classes.
        losses: (N,), the loss of each image in the order of the split; None unless asked for.
        labels, predictions, probabilities: (N,), (N,), (N, K) in the order of the split; None unless asked for, and
            for a task without classes.
        top_classes: (N, `TOP`), the likeliest classes, likeliest first, where all probabilities would be too many:
            `probabilities` are then those of these classes, (N, `TOP`). None otherwise.
    """

    loss: float
    confusion: np.ndarray | None
    losses: np.ndarray | None = None
    labels: np.ndarray | None = None
    predictions: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    top_classes: np.ndarray | None = None

    def scores(self) -> dict[str, float]:
        """The loss and, where there are classes, every registered metric, by name."""
        return {"loss": self.loss, **(scores(self.confusion) if self.confusion is not None else {})}


@dataclass
class Progress:
    """What an epoch has come to so far.

    Attributes:
        steps: done.
        losses: float32, (steps an epoch,), each step's mean loss.
        correct: int64, (), how many predictions made while training were right; None for a task without classes.
        seconds: spent on those steps.
    """

    steps: int
    losses: Tensor
    correct: Tensor | None
    seconds: float = 0.0

    @classmethod
    def start(cls, batches: Batches, task: Task, accumulate: int = 1) -> "Progress":
        """Of an epoch that has not begun; a step takes `accumulate` batches."""
        device = batches.device
        correct = torch.zeros((), dtype=torch.int64, device=device) if task.has_classes else None
        return cls(0, torch.zeros(-(-len(batches) // accumulate), device=device), correct)


class Diverged(RuntimeError):
    """A loss or a weight became infinite or not a number."""


@dataclass
class Stepper:
    """One training step with its settings.

    Attributes:
        task: whose loss it is.
        forward: the network, possibly compiled.
        parameters: what gradients are clipped over.
        class_weights: (K,), what each class counts in the loss, on the device; None where all count alike.
        autocast: a fresh context for the forward pass of each step; does nothing for fp32.
        scaler: scales the loss for fp16; passes everything through for the others.
        average: of the weights, taken in after each step; None where none is wanted.
        accumulate: how many batches a step takes, one after the other; the last step of an epoch may take fewer.
    """

    task: Task
    forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], AbstractContextManager[None]]
    scaler: torch.amp.GradScaler
    label_smoothing: float
    clip_norm: float | None
    class_weights: Tensor | None = None
    average: WeightAverage | None = None
    accumulate: int = 1

    def __call__(self, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Move the weights once, along the mean over some batches that have `count` images together.

        Several batches need the memory of one, and make the step that one batch of all their images would, but for
        layers that look at a whole batch (batch norms).

        Returns:
            The mean loss (), and of all images the network's outputs and the labels; detached.
        """
        self.optimizer.zero_grad(set_to_none=True)
        losses, weights, answers, truths = [], [], [], []
        for images, labels in batches:
            with self.autocast():
                outputs = self.forward(images)
                loss = training_loss(self.task, outputs, images, labels, self.label_smoothing, self.class_weights)
            if len(labels) < count:  # its part of the mean over all
                weights.append(self._weight(labels) / count)
                loss = loss * weights[-1]
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            answers.append(split_outputs(outputs)[0].detach())
            truths.append(labels)
        if not weights:
            return self._move(losses[0]), answers[0], truths[0]
        total = sum(weights)
        torch._foreach_div_([value.grad for value in self.parameters if value.grad is not None], total)
        return self._move(sum(losses[1:], losses[0]) / total), torch.cat(answers), torch.cat(truths)

    def _weight(self, labels: Tensor) -> Tensor | int:
        """What a batch counts beside others: its images or, as in the mean of its loss, their classes' weights."""
        return len(labels) if self.class_weights is None or labels.dim() > 1 else self.class_weights[labels].sum()

    def _move(self, loss: Tensor) -> Tensor:
        """Let the optimizer use the gradients that there are; returns the loss they are of."""
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


def train_one_epoch(
    step: Stepper,
    batches: Batches,
    progress: Progress,
    *,
    epoch: int,
    seed: int,
    lr: float,
    schedule: Schedule,
    advance: Callable[[int, float | None], None],
) -> dict[str, float]:
    """Train on every batch of an epoch once, or on those that are left of it.

    Args:
        progress: what was done of the epoch before; kept up to date.
        epoch: 0 for the first; with `seed` it fixes the order of the images and the noise of every step.
        lr: the base learning rate, multiplied by `schedule(step)`.
        advance: told the number of images done after each step, and now and then the current loss; what it raises
            ends the epoch there.

    Returns:
        `loss`, the mean over the images (with label smoothing and auxiliary heads, as it is optimised), and where the
        task has classes `accuracy`, of the predictions made while training.

    Raises:
        Diverged: a loss is infinite or not a number; the message names epoch and step, both counted from 1.
    """
    device = batches.device
    steps, size = len(progress.losses), batches.batch_size * step.accumulate
    sizes = [size] * (steps - 1) + [len(batches.labels) - size * (steps - 1)]
    first = epoch * steps
    clock = time.perf_counter() - progress.seconds
    served = batches.epoch(epoch, progress.steps * step.accumulate)
    for number in range(progress.steps, steps):
        seed_model_noise(key(seed, "step", epoch, number), device)
        for group in step.optimizer.param_groups:
            group["lr"] = lr * schedule(first + number)
        loss, outputs, labels = step(islice(served, step.accumulate), sizes[number])
        if step.average is not None:
            step.average.update(first + number)
        progress.losses[number] = loss
        if progress.correct is not None:
            # Of an image mixed from two, the class it has most of is taken as the true one.
            progress.correct += (outputs.argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum()
        progress.steps = number + 1
        progress.seconds = time.perf_counter() - clock
        look = number % LOOK_EVERY == 0
        if look:
            stop_if_diverged(progress.losses[: number + 1], epoch)
        advance(sizes[number], loss.item() if look else None)
    next(served, None)  # nothing is left, and what serves it ends
    stop_if_diverged(progress.losses, epoch)
    progress.seconds = max(progress.seconds, time.perf_counter() - clock)
    trained = {"loss": float((progress.losses.double().cpu() * torch.tensor(sizes)).sum() / sum(sizes))}
    if progress.correct is not None:
        trained["accuracy"] = int(progress.correct) / len(batches.labels)
    return trained


def stop_if_diverged(losses: Tensor, epoch: int) -> None:
    """Look at an epoch's losses so far.

    Raises:
        Diverged: naming the first step whose loss is not finite.
    """
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise Diverged(f"the loss became {losses[step].item()} at epoch {epoch + 1}, step {step + 1}. {HELPS}")


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    *,
    task: Task,
    num_classes: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    keep_predictions: bool = False,
    between: Callable[[], None] = lambda: None,
    of: str = "images",
) -> Evaluation:
    """Run a model over a split in its own order; the model comes back in the mode it was in.

    Args:
        keep_predictions: keep what came of each image: its loss and, where there are classes, its prediction and
            probabilities.
        between: called after each batch; what it raises ends the pass.
        of: what an error calls the images.

    Raises:
        Diverged: the loss of an image is infinite or not a number.
    """
    total = torch.zeros((), dtype=torch.float64, device=batches.device)
    losses: list[Tensor] = []
    predicted: list[Tensor] = []
    kept: list[tuple[Tensor, ...]] = []
    few = len(batches.labels) * num_classes <= MOST_PROBABILITIES
    was_training = model.training
    model.eval()
    try:
        for images, labels in batches.epoch():
            with autocast():
                outputs = model(images)
            outputs = outputs.float()
            losses.append(task.loss(outputs, images, labels, reduction="none"))
            total += losses[-1].sum(dtype=torch.float64)
            if task.has_classes:
                predicted.append(outputs.argmax(1))
                if keep_predictions:
                    probabilities = outputs.softmax(1)
                    kept.append((probabilities,) if few else tuple(probabilities.topk(min(TOP, num_classes))))
            between()
    finally:
        model.train(was_training)
    loss = torch.cat(losses)
    if not bool((finite := loss.isfinite()).all()):
        raise Diverged(
            f"the loss of {int((~finite).sum()):,} of {len(loss):,} {of} is infinite or not a number. {HELPS}"
        )
    evaluation = Evaluation(float(total) / max(len(loss), 1), None)
    if task.has_classes:
        true, said = batches.labels.cpu().numpy(), torch.cat(predicted).cpu().numpy()
        evaluation.confusion = confusion_of(true, said, num_classes)
    if keep_predictions:
        evaluation.losses = loss.cpu().numpy()
    if kept:
        evaluation.labels, evaluation.predictions = true, said
        evaluation.probabilities, *classes = (torch.cat(parts).cpu().numpy() for parts in zip(*kept, strict=True))
        evaluation.top_classes = classes[0] if classes else None
    return evaluation
