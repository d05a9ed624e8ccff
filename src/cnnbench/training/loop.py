"""One step of training, and one evaluation. No step waits for the device or branches on a value computed there."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.data import Batches
from cnnbench.metrics import compute_scores, count_confusion, score_probabilities
from cnnbench.metrics.ranking import score_ranking
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.training.ema import WeightAverage
from cnnbench.training.graph import StepGraph
from cnnbench.training.optimizers import Optimizer
from cnnbench.training.progress import ADVICE, Diverged
from cnnbench.training.ranks import notice_timeout, sum_over_ranks
from cnnbench.training.tasks import Task, compute_loss, count_correct, split_outputs

MOST_PROBABILITIES = 2**25  # of a split: 128 MB; beyond this, only those of the `TOP` likeliest classes are kept
TOP = 10


@dataclass
class Classified:
    """How a split was classified. Arrays by image are in the split's order.

    Attributes:
        probabilities: (N, K); None unless requested.
        top_classes: (N, `TOP`), the likeliest classes first, if all probabilities would be too many; `probabilities`,
            (N, `TOP`), are then theirs. Otherwise None.
    """

    confusion: np.ndarray  # (K, K), as `count_confusion` gives it
    labels: np.ndarray  # (N,)
    predictions: np.ndarray  # (N,)
    probabilities: np.ndarray | None = None
    top_classes: np.ndarray | None = None


@dataclass
class Evaluation:
    """The result of one pass over a split."""

    loss: float  # the task's, mean over the images
    losses: np.ndarray  # (N,), in the split's order
    classified: Classified | None  # None for a task without classes

    def compute_scores(self) -> dict[str, float]:
        """The loss, for a task with classes every registered metric, and the scores of probabilities that were kept."""
        scores, found = {"loss": self.loss}, self.classified
        if found is not None:
            scores |= compute_scores(found.confusion)
            if found.probabilities is not None:
                scores |= score_probabilities(vars(found)) | score_ranking(vars(found), found.confusion.shape[0])
        return scores


@dataclass
class Stepper:
    """One training step with its settings."""

    task: Task
    forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]]  # the network, possibly compiled or distributed
    parameters: list[nn.Parameter]  # those whose gradients are clipped
    optimizer: Optimizer
    autocast: Callable[[], AbstractContextManager[None]]  # makes the context of a forward pass
    scaler: torch.amp.GradScaler  # of the loss for fp16; disabled for other precisions
    label_smoothing: float
    clip_norm: float | None
    class_weights: Tensor | None = None  # (K,), on the device; None weighs all classes alike
    average: WeightAverage | None = None  # of the weights, updated after each step
    accumulate: int = 1  # batches a step; the last step of an epoch may have fewer
    graph: StepGraph | None = None  # replays the step from a recording; None runs it eagerly
    rank: Rank = ALONE  # which part of each batch this process computes

    def __call__(self, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor | None]:
        """Update the weights once, by the mean gradient over batches that have `count` images together.

        The step equals that of one large batch, except for batch norms, which see each batch by itself.

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
                main, _ = split_outputs(outputs)
                correct.append(count_correct(main, labels))
        # Sums begin with the first tensor: 0 + tensor would launch one more kernel at every step.
        loss, counted = sum(losses[1:], losses[0]), sum(correct[1:], correct[0]) if correct else None
        if weights:
            total, ranks = sum(weights), self.rank.count
            if ranks > 1:
                loss, total, counted = sum_over_ranks([loss, total, counted], loss.device)
            # DistributedDataParallel averages gradients over ranks; each rank's loss is part of the whole, so sum them.
            torch._foreach_div_([value.grad for value in self.parameters if value.grad is not None], total / ranks)
            loss = loss / total
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]  # clip the gradients, not their scaled form
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]  # it needs no more than the protocol
        self.scaler.update()
        return loss, counted

    def _sum_weights(self, labels: Tensor) -> Tensor | int:
        """The sum of the weights of a batch's images, which is the divisor of its mean loss."""
        # Mixed labels are shares of classes, (N, K): torch then divides by the number of images.
        return len(labels) if self.class_weights is None or labels.dim() > 1 else self.class_weights[labels].sum()


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
    """Measure a model on a split, in the split's order.

    Args:
        keep_probabilities: also return those of each image, if the task has classes.
        between: called after each batch; what it raises ends the pass.
        of: what an error message calls the images.

    Raises:
        Diverged: the loss of an image is infinite or not a number.
    """
    total = torch.zeros((), dtype=torch.float64, device=batches.device)  # float32 loses digits over many images
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
            outputs = outputs.float()  # of bf16 and fp16, whose losses and probabilities would be coarse
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
