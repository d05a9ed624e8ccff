"""One step of training. It neither waits for the device nor branches on a value computed there."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.training.ema import WeightAverage
from cnnbench.training.graph import StepGraph
from cnnbench.training.ranks import notice_timeout, sum_over_ranks
from cnnbench.training.tasks import Task, compute_loss, count_correct, split_outputs
from cnnbench.training.torch_optimizers import Optimizer


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
