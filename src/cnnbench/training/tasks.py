"""What a network is trained for: the loss that moves its weights, and what can be counted of its outputs."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.3  # of each auxiliary head's loss, as in "Going Deeper with Convolutions", arXiv:1409.4842


class Loss(Protocol):
    """A loss of a batch."""

    def __call__(
        self,
        outputs: Tensor,
        images: Tensor,
        labels: Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        reduction: str = "mean",
    ) -> Tensor:
        """The mean over the images, (), or with reduction `none` the loss of each, (N,).

        Args:
            class_weights: (K,), how much an image of each class counts in the mean; None counts all alike.
        """


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        loss: of the outputs, the images they came from, and the labels.
        has_classes: whether the outputs are logits, so that there are predictions, accuracy and a confusion matrix.
        monitor: what chooses the best epoch unless the user says otherwise.
    """

    name: str
    loss: Loss
    has_classes: bool
    monitor: str


def cross_entropy(
    outputs: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of logits (N, K), in nats; labels are int64 (N,) or shares of classes, float32 (N, K).

    Weighted, the mean is divided by the sum of the images' weights; with shares of classes, by N.
    """
    return F.cross_entropy(outputs, labels, class_weights, label_smoothing=label_smoothing, reduction=reduction)


def squared_error(
    outputs: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over an image's pixels of the squared difference from it, in units of normalised pixels."""
    each = F.mse_loss(outputs.float(), images, reduction="none").flatten(1).mean(1)
    return each.mean() if reduction == "mean" else each


CLASSIFICATION = Task("classification", cross_entropy, has_classes=True, monitor="val/accuracy")
RECONSTRUCTION = Task("reconstruction", squared_error, has_classes=False, monitor="val/loss")
TASKS = {task.name: task for task in (CLASSIFICATION, RECONSTRUCTION)}


def task_of(model: nn.Module) -> Task:
    """The task a model names in its attribute `task`; classification where it names none."""
    return TASKS[getattr(model, "task", CLASSIFICATION.name)]


def split_outputs(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What a network gives, and what its auxiliary heads give, if it has any and is training."""
    return (outputs, ()) if isinstance(outputs, Tensor) else (outputs[0], tuple(outputs[1:]))


def training_loss(
    task: Task,
    outputs: Tensor | tuple[Tensor, ...],
    images: Tensor,
    labels: Tensor,
    label_smoothing: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The mean loss of a batch, (); each auxiliary head adds its own, times 0.3."""
    main, auxiliary = split_outputs(outputs)
    measured = partial(task.loss, label_smoothing=label_smoothing, class_weights=class_weights)
    loss = measured(main, images, labels)
    for other in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * measured(other, images, labels)
    return loss
