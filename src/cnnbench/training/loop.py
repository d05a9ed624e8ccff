"""One step, one epoch, one evaluation. No step waits for the device or branches on a value computed there."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.data import Batches
from cnnbench.metrics import compute_scores, count_confusion, score_probabilities
from cnnbench.metrics.ranking import score_ranking
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.reproducibility import derive_key, seed_model_noise
from cnnbench.training.ema import WeightAverage
from cnnbench.training.graph import StepGraph, set_lr
from cnnbench.training.optim import Schedule
from cnnbench.training.optimizers import Optimizer
from cnnbench.training.progress import Progress, list_step_sizes, summarize_epoch
from cnnbench.training.ranks import notice_timeout, sum_over_ranks
from cnnbench.training.tasks import Task, compute_loss, count_correct, split_outputs

MOST_PROBABILITIES = 2**25  # of a split: 128 MB; beyond this, only those of the `TOP` likeliest classes are kept
TOP = 10
ADVICE = "A smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_epochs=1 usually helps"
CHECK_EVERY = 64  # steps between two checks of the loss, each of which waits for the device


@dataclass
class Classified:
    """How a split was classified. Arrays by image are in the split's order.

    Attributes:
        confusion: (K, K) counts, as `count_confusion` gives them.
        labels, predictions: (N,).
        probabilities: (N, K); None unless requested.
        top_classes: (N, `TOP`), the likeliest classes first, if all probabilities would be too many; `probabilities`,
            (N, `TOP`), are then theirs. Otherwise None.
    """

    confusion: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray | None = None
    top_classes: np.ndarray | None = None


@dataclass
class Evaluation:
    """The result of one pass over a split.

    Attributes:
        loss: the task's, mean over the images.
        losses: (N,), by image, in the split's order.
        classified: None for a task without classes.
    """

    loss: float
    losses: np.ndarray
    classified: Classified | None

    def compute_scores(self) -> dict[str, float]:
        """The loss, for a task with classes every registered metric, and the scores of probabilities that were kept."""
        scores, found = {"loss": self.loss}, self.classified
        if found is not None:
            scores |= compute_scores(found.confusion)
            if found.probabilities is not None:
                scores |= score_probabilities(vars(found)) | score_ranking(vars(found), found.confusion.shape[0])
        return scores


class Diverged(RuntimeError):
    """A loss or a weight became infinite or not a number."""


@dataclass
class Stepper:
    """One training step with its settings.

    Attributes:
        forward: the network, possibly compiled.
        parameters: those whose gradients are clipped.
        autocast: makes the context of a forward pass.
        scaler: scales the loss for fp16; disabled for other precisions.
        class_weights: (K,), on the device, the weight of each class in the loss; None weighs all alike.
        average: of the weights, updated after each step.
        accumulate: batches a step; the last step of an epoch may have fewer.
        graph: replays the step from a recording; None runs it eagerly.
        rank: which part of each batch this process computes; with several, `forward` averages their gradients.
    """

    task: Task
    forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    autocast: Callable[[], AbstractContextManager[None]]
    scaler: torch.amp.GradScaler
    label_smoothing: float
    clip_norm: float | None
    class_weights: Tensor | None = None
    average: WeightAverage | None = None
    accumulate: int = 1
    graph: StepGraph | None = None
    rank: Rank = ALONE

    def __call__(self, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor | None]:
        """Update the weights once, by the mean gradient over batches that have `count` images together.

        The step equals that of one large batch, except for layers that use the whole batch (batch norms).

        Returns:
            The mean loss, (), detached; the number of correct predictions, int64 (), or None without classes.
        """
        if self.graph is not None:
            return self.graph.run(self._step, list(batches), count)
        with notice_timeout() if self.rank.count > 1 else nullcontext():
            return self._step(batches, count)

    def _step(self, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor | None]:
        self.optimizer.zero_grad()
        losses, weights, correct = [], [], []
        for images, labels in batches:
            with self.autocast():
                outputs = self.forward(images)
                loss = compute_loss(self.task, outputs, images, labels, self.label_smoothing, self.class_weights)
            if len(labels) < count or self.rank.count > 1:  # part of the step's images: weight the mean by its share
                weights.append(self._sum_weights(labels) / count)
                loss = loss * weights[-1]
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            if self.task.has_classes:
                correct.append(count_correct(split_outputs(outputs)[0], labels))
        counted = sum(correct[1:], correct[0]) if correct else None
        if not weights:
            self._update()
            return losses[0], counted
        loss, total, ranks = sum(losses[1:], losses[0]), sum(weights), self.rank.count
        if ranks > 1:
            loss, total, counted = sum_over_ranks([loss, total, counted], loss.device)
        # DistributedDataParallel averages gradients over ranks; each rank's loss is a part of the whole, so sum them.
        torch._foreach_div_([value.grad for value in self.parameters if value.grad is not None], total / ranks)
        self._update()
        return loss / total, counted

    def _sum_weights(self, labels: Tensor) -> Tensor | int:
        """The sum of the weights of a batch's images, which is the divisor of its mean loss."""
        return len(labels) if self.class_weights is None or labels.dim() > 1 else self.class_weights[labels].sum()

    def _update(self) -> None:
        """Clip the gradients and let the optimizer use them."""
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]  # it needs no more than the protocol
        self.scaler.update()


def train_one_epoch(
    step: Stepper,
    batches: Batches,
    progress: Progress,
    *,
    epoch: int,
    noise_seed: int,
    lr: float,
    schedule: Schedule,
    advance: Callable[[int, float | None], None],
) -> dict[str, float]:
    """Train on each batch of an epoch once; in a resumed epoch, on the remaining batches.

    Args:
        progress: what is done of the epoch; updated after each step.
        epoch: 0 for the first; with `noise_seed` it determines the noise of each step, such as dropout.
        lr: the base learning rate, multiplied by `schedule(step)`.
        advance: called after each step with its number of images and, now and then, its loss. What it raises ends the
            epoch there.

    Returns:
        `loss`, the mean over the images as it is optimised (with label smoothing and auxiliary heads); for a task with
        classes also `accuracy`, of the predictions made while training.

    Raises:
        Diverged: a loss is infinite or not a number.
    """
    device = batches.device
    sizes = list_step_sizes(batches, step.accumulate)
    steps = len(sizes)
    first = epoch * steps
    clock = time.perf_counter() - progress.seconds
    served = batches.iterate_epoch(epoch, progress.steps * step.accumulate)
    for number in range(progress.steps, steps):
        seed_model_noise(derive_key(noise_seed, "step", epoch, number, *step.rank.noise_key), device)
        set_lr(step.optimizer, lr * schedule(first + number))
        loss, correct = step(islice(served, step.accumulate), sizes[number])
        if step.average is not None:
            step.average.update(first + number)
        progress.losses[number] = loss
        if progress.correct is not None and correct is not None:
            progress.correct += correct
        progress.steps = number + 1
        progress.seconds = time.perf_counter() - clock
        checked = number % CHECK_EVERY == 0 or number + 1 == steps
        if checked:
            check_losses(progress.losses[: number + 1], epoch)
        advance(sizes[number], loss.item() if checked else None)
    next(served, None)  # lets the loader finish
    check_losses(progress.losses, epoch)
    progress.seconds = max(progress.seconds, time.perf_counter() - clock)
    return summarize_epoch(progress, sizes)


def check_losses(losses: Tensor, epoch: int) -> None:
    """Check an epoch's losses so far.

    Raises:
        Diverged: a loss is infinite or not a number; the message names epoch and step, both counted from 1.
    """
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise Diverged(f"the loss became {losses[step].item()} at epoch {epoch + 1}, step {step + 1}. {ADVICE}")


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    *,
    task: Task,
    num_classes: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    keep_probabilities: bool = False,
    between: Callable[[], None] = lambda: None,
    of: str = "images",
) -> Evaluation:
    """Measure a model on a split, in the split's order. The model's training mode is restored afterwards.

    Args:
        keep_probabilities: also return those of each image, if the task has classes.
        between: called after each batch; what it raises ends the pass.
        of: what an error message calls the images.

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
        for images, labels in batches.iterate_epoch():
            with autocast():
                outputs = model(images)
            outputs = outputs.float()
            losses.append(task.loss(outputs, images, labels, reduction="none"))
            total += losses[-1].sum(dtype=torch.float64)
            if task.has_classes:
                predicted.append(outputs.argmax(1))
                if keep_probabilities:
                    probabilities = outputs.softmax(1)
                    kept.append((probabilities,) if few else tuple(probabilities.topk(min(TOP, num_classes))))
            between()
    finally:
        model.train(was_training)
    loss = torch.cat(losses)
    if not bool((finite := loss.isfinite()).all()):
        raise Diverged(
            f"the loss of {int((~finite).sum()):,} of {len(loss):,} {of} is infinite or not a number. {ADVICE}"
        )
    classified = None
    if task.has_classes:
        true, predictions = batches.labels.cpu().numpy(), torch.cat(predicted).cpu().numpy()
        arrays = [torch.cat(parts).cpu().numpy() for parts in zip(*kept, strict=True)]
        classified = Classified(count_confusion(true, predictions, num_classes), true, predictions, *arrays)
    return Evaluation(float(total) / max(len(loss), 1), loss.cpu().numpy(), classified)
