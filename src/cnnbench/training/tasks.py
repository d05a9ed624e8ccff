"""Tasks: the loss that a network is trained with, and what can be counted in its outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.3  # of each auxiliary head's loss, as in "Going Deeper with Convolutions", arXiv:1409.4842


@dataclass(frozen=True)
class Task:
    """What a network is trained for.

    Attributes:
        loss: takes a batch's outputs, images and labels, and as keywords `label_smoothing`, `class_weights` ((K,), or
            None if all classes count alike) and `reduction`: `mean` gives a scalar, `none` a loss for each image, (N,).
        has_classes: whether the outputs are logits, so that there are predictions, accuracy and a confusion matrix.
        monitor: the metric that chooses the best epoch by default.
    """

    name: str
    loss: Callable[..., Tensor]
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

    A weighted mean is divided by the sum of the images' weights; with shares of classes, by N.
    """
    return F.cross_entropy(outputs, labels, class_weights, label_smoothing=label_smoothing, reduction=reduction)


def squared_error(outputs: Tensor, images: Tensor, labels: Tensor, *, reduction: str = "mean", **_: object) -> Tensor:
    """The squared difference from the image, in normalised pixels, mean over its pixels."""
    each = F.mse_loss(outputs.float(), images, reduction="none").flatten(1).mean(1)  # float: bf16 squares are coarse
    return each.mean() if reduction == "mean" else each


CLASSIFICATION = Task("classification", cross_entropy, has_classes=True, monitor="val/accuracy")
RECONSTRUCTION = Task("reconstruction", squared_error, has_classes=False, monitor="val/loss")
TASKS = {task.name: task for task in (CLASSIFICATION, RECONSTRUCTION)}


def get_task(model: nn.Module) -> Task:
    """The task that a model names in its attribute `task`; classification if it names none."""
    return TASKS[getattr(model, "task", CLASSIFICATION.name)]


def split_outputs(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A network's output, and the outputs of its auxiliary heads, which exist only in training."""
    return (outputs, ()) if isinstance(outputs, Tensor) else (outputs[0], tuple(outputs[1:]))


def compute_loss(
    task: Task,
    outputs: Tensor | tuple[Tensor, ...],
    images: Tensor,
    labels: Tensor,
    label_smoothing: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The mean loss of a batch, (); each auxiliary head adds its own, times 0.3. Without images it is 0."""
    main, auxiliary = split_outputs(outputs)
    # A rank's part of a batch may be empty. It must still have gradients, zeros, because the others wait for them.
    if not len(labels):
        return sum((other.sum() for other in auxiliary), main.sum()) * 0
    measure = partial(task.loss, label_smoothing=label_smoothing, class_weights=class_weights)
    loss = measure(main, images, labels)
    for other in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * measure(other, images, labels)
    return loss


def count_correct(outputs: Tensor, labels: Tensor) -> Tensor:
    """How many predictions are correct, int64 (); the true class of a mixed image is the one with the larger share."""
    return (outputs.argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum()
