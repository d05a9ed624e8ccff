"""Check an exported file before it is written: it must predict what the run's own network predicts.

Probabilities may differ by up to `TOLERANCE`, and labels must be equal for all images, except at a tie: where the run's
network itself gives its two likeliest classes probabilities that differ by less than `TOLERANCE`, the last bits decide,
and the file may give either class.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import Split
from cnnbench.experiment.measuring.measurement import Measurement
from cnnbench.exporting.formats import Answer
from cnnbench.exporting.network import PortableNetwork
from cnnbench.exporting.resizing import iterate_examples
from cnnbench.storage.text import make_printable

TOLERANCE = 1e-5
FIRST_BATCHES, BATCH = (1, 2, 3, 7), 251  # images; several sizes, because a file must accept any number
Outputs = tuple[np.ndarray, ...]


class Disagreement(Exception):
    """The predictions of an exported file differ from those of the run's network.

    Attributes:
        place: of the worst image in the test split; None for an image of another size.
        difference: the largest difference of its values.
        labels: the network's class and the file's; None for a network without classes.
    """

    def __init__(self, image: str, place: int | None, difference: float, labels: Sequence[str] | None) -> None:
        self.place, self.difference, self.labels = place, difference, labels
        classes = f", labels {labels[0]} (the run's network) and {labels[1]} (the file)" if labels else ""
        super().__init__(
            "the file's predictions differ from those of the run's network, so it was not kept. The worst is "
            f"{image}{classes}: its values differ by {difference:.2g}, and at most {TOLERANCE:g} is accepted"
        )


@dataclass(frozen=True)
class Agreement:
    """How far a file agrees with the run's network.

    Attributes:
        images: the number of images compared.
        difference: the largest difference of a probability, or of a pixel of a reconstruction.
        ties: the number of images whose label may be either of two classes.
        other_labels: the number of images that get another label in bf16, the run's precision; None for other runs.
    """

    images: int
    difference: float
    ties: int
    other_labels: int | None


def check_test_split(
    ready: Measurement, portable: PortableNetwork, answer: Answer, class_names: Sequence[str]
) -> Agreement:
    """Compare a file's predictions for a whole split with those of the run's network.

    Args:
        ready: the split, and the network on the CPU.
        answer: computes the file's predictions.

    Raises:
        Disagreement: they differ.
    """
    # The CPU, which checks, cannot repeat fp16, which is for GPUs.
    is_bf16 = portable.has_classes and ready.trained.config.trainer.precision == "bf16"
    other_labels, found = 0, []
    for values in _iterate_values(ready.found.split):
        expected = compute(ready, portable, values)
        found.append(compare(expected, answer(values.numpy())))
        if is_bf16:
            own = compute(ready, portable, values, own_precision=True)
            other_labels += int((own[0].argmax(1) != expected[0].argmax(1)).sum())
    differences, labels, given, is_tie = (np.concatenate(column) for column in zip(*found, strict=True))
    is_wrong = (labels != given) & ~is_tie
    worst = int(np.lexsort((differences, is_wrong))[-1])  # of wrong labels, else of all
    if is_wrong[worst] or differences[worst] > TOLERANCE:
        names = [make_printable(class_names[one[worst]]) for one in (labels, given)] if portable.has_classes else None
        raise Disagreement(f"test image {worst:,}", worst, float(differences[worst]), names)
    return Agreement(len(differences), float(differences.max()), int(is_tie.sum()), other_labels if is_bf16 else None)


def check_other_sizes(ready: Measurement, portable: PortableNetwork, answer: Answer) -> None:
    """Compare a file's predictions for images of other sizes with the network's for the images that Pillow resizes.

    Raises:
        Disagreement: they differ.
    """
    assert portable.how is not None, "signals have one length"
    for images, resized in iterate_examples(portable.how):
        difference = float(compare(compute(ready, portable, resized), answer(images.numpy()))[0].max())
        if difference > TOLERANCE:
            height, width = images.shape[2:]
            raise Disagreement(f"an image of {height}×{width} pixels", None, difference, None)


def compare(expected: Outputs, given: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare predictions for the same images.

    Args:
        expected, given: logits and probabilities (N, K), or reconstructions.

    Returns:
        For each image: the largest difference, infinite if a value is not a number; both labels; whether there is a
        tie. Reconstructions have label 0 and no ties.
    """
    count = len(expected[-1])
    labels = given_labels = np.zeros(count, np.int64)
    is_tie = np.zeros(count, bool)
    if [one.shape for one in expected] != [one.shape for one in given]:
        return np.full(count, np.inf), labels, given_labels, is_tie
    apart = np.abs(expected[-1].astype(np.float64) - given[-1]).reshape(count, -1).max(1)
    if len(expected) > 1:
        labels, given_labels = expected[0].argmax(1), given[0].argmax(1)
        shares = np.sort(expected[1], 1)
        if shares.shape[1] > 1:
            is_tie = shares[:, -1] - shares[:, -2] < TOLERANCE
    return np.where(np.isfinite(apart), apart, np.inf), labels, given_labels, is_tie


@torch.no_grad()
def compute(ready: Measurement, portable: PortableNetwork, values: Tensor, *, own_precision: bool = False) -> Outputs:
    """The network's predictions for images or signals as they are stored, in float32 or in the run's precision."""
    autocast = ready.trained.make_autocast(ready.device) if own_precision else nullcontext
    outputs = []
    for images, _ in ready.serve(Split(values, torch.zeros(len(values), dtype=torch.int64))).iterate_epoch():
        with autocast():
            outputs.append(ready.model(images))
    return tuple(one.numpy() for one in portable.finish(torch.cat(outputs).float()))


def _iterate_values(split: Split) -> Iterator[Tensor]:
    """The images or signals in batches of the sizes that the check covers."""
    sizes = chain(FIRST_BATCHES, repeat(BATCH))
    size = next(sizes)
    rest = None
    for chunk in split.iterate_chunks():
        rest = chunk if rest is None else torch.cat([rest, chunk])
        while len(rest) >= size:
            yield rest[:size]
            rest, size = rest[size:], next(sizes)
    if rest is not None and len(rest):
        yield rest
