"""One pass over a split that measures a model. No batch waits for the device."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.data import Batches
from cnnbench.metrics import compute_scores, count_confusion, score_probabilities
from cnnbench.metrics.ranking import score_ranking
from cnnbench.training.progress import ADVICE, Diverged
from cnnbench.training.tasks import Task

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
