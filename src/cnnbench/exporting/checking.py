"""Check an exported file before it is written: it must give the answers of the run's own network.

A classifier's probabilities may differ by up to `TOLERANCE`, and its labels must be equal for all images. The one
exception is a tie: where the run's network itself gives its two likeliest classes probabilities that differ by less
than `TOLERANCE`, the last bits decide, and the file may give either class.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

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
# Images of a batch: the first ones show that their number is free.
FIRST_BATCHES, BATCH = (1, 2, 3, 7), 251
Outputs = tuple[np.ndarray, ...]


class Disagreement(Exception):
    """An exported file gives other answers than the run's network.

    Attributes:
        place: of the worst image in the test split; None for an image of another size.
        difference: the largest one of its values.
        labels: the network's class and the file's; None for a network without classes.
    """

    def __init__(self, image: str, place: int | None, difference: float, labels: tuple[str, str] | None) -> None:
        self.place, self.difference, self.labels = place, difference, labels
        classes = f", labels {labels[0]} (the run's network) and {labels[1]} (the file)" if labels else ""
        super().__init__(
            f"the file gives other answers than the run's network, and was not kept. The worst is {image}{classes}: "
            f"its values differ by {difference:.2g}, and {TOLERANCE:g} is accepted"
        )


@dataclass
class Agreement:
    """How far a file agrees with the run's network.

    Attributes:
        images: how many were compared.
        difference: the largest one of a probability, or of a pixel of a reconstruction.
        ties: images whose label may be either of two classes.
        other_labels: images that get another label in the run's own precision, bf16; None for other runs.
    """

    images: int = 0
    difference: float = 0.0
    ties: int = 0
    other_labels: int | None = None


def check_test_split(
    ready: Measurement, portable: PortableNetwork, answer: Answer, class_names: Sequence[str]
) -> Agreement:
    """Compare a file's answers for a whole split with those of the run's network.

    Args:
        ready: the split, and the network on the CPU.
        answer: of the file.

    Raises:
        Disagreement: they differ.
    """
    # fp16 is for GPUs: the processor that checks cannot repeat it.
    is_bf16 = portable.has_classes and ready.trained.config.trainer.precision == "bf16"
    found = Agreement(other_labels=0 if is_bf16 else None)
    worst = (False, 0.0, 0, (0, 0))
    for values in _iterate_values(ready.found.split):
        expected, given = compute(ready, portable, values), answer(values.numpy())
        differences, labels, is_tie = compare(expected, given)
        is_wrong = (labels[0] != labels[1]) & ~is_tie
        at = int(np.lexsort((differences, is_wrong))[-1])
        pair = int(labels[0][at]), int(labels[1][at])
        here = bool(is_wrong[at]), float(differences[at]), found.images + at, pair
        worst = max(worst, here, key=lambda one: one[:2])
        found.images += len(values)
        found.difference = max(found.difference, float(differences.max()))
        found.ties += int(is_tie.sum())
        if found.other_labels is not None:
            own = compute(ready, portable, values, own_precision=True)
            found.other_labels += int((own[0].argmax(1) != labels[0]).sum())
    is_wrong, difference, place, pair = worst
    if is_wrong or difference > TOLERANCE:
        names = [make_printable(class_names[label]) for label in pair] if portable.has_classes else None
        raise Disagreement(f"test image {place:,}", place, difference, (names[0], names[1]) if names else None)
    return found


def check_other_sizes(ready: Measurement, portable: PortableNetwork, answer: Answer) -> None:
    """Compare a file's answers for images of other sizes with those for the images that Pillow resizes.

    Raises:
        Disagreement: they differ.
    """
    assert portable.how is not None, "signals have one length"
    for images, resized in iterate_examples(portable.how):
        differences, _, _ = compare(compute(ready, portable, resized), answer(images.numpy()))
        if (difference := float(differences.max())) > TOLERANCE:
            height, width = images.shape[2:]
            raise Disagreement(f"an image of {height}×{width} pixels", None, difference, None)


def compare(expected: Outputs, given: Outputs) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Compare answers for the same images.

    Args:
        expected, given: logits and probabilities (N, K), or reconstructions.

    Returns:
        For each image: the largest difference, infinite where one is not a number; both labels; whether there is a tie.
    """
    count = len(expected[-1])
    nowhere = np.zeros(count, np.int64)
    if [one.shape for one in expected] != [one.shape for one in given]:
        return np.full(count, np.inf), (nowhere, nowhere), nowhere.astype(bool)
    apart = np.abs(expected[-1].astype(np.float64) - given[-1]).reshape(count, -1).max(1)
    differences = np.where(np.isfinite(apart), apart, np.inf)
    if len(expected) == 1:
        return differences, (nowhere, nowhere), nowhere.astype(bool)
    shares = np.sort(expected[1], 1)
    is_tie = shares[:, -1] - shares[:, -2] < TOLERANCE if shares.shape[1] > 1 else nowhere.astype(bool)
    return differences, (expected[0].argmax(1), given[0].argmax(1)), is_tie


@torch.no_grad()
def compute(ready: Measurement, portable: PortableNetwork, values: Tensor, *, own_precision: bool = False) -> Outputs:
    """What the run's network gives for images or signals as they are stored, in float32 or in the run's precision."""
    autocast = ready.trained.make_autocast(ready.device) if own_precision else nullcontext
    outputs = []
    for images, _ in ready.serve(Split(values, torch.zeros(len(values), dtype=torch.int64))).iterate_epoch():
        with autocast():
            outputs.append(ready.model(images))
    return tuple(one.numpy() for one in portable.finish(torch.cat(outputs).float()))


def _iterate_values(split: Split) -> Iterator[Tensor]:
    """The images or signals in batches of the sizes that are to be shown."""
    rest: list[Tensor] = []
    sizes = iter(FIRST_BATCHES)
    size = next(sizes)
    for chunk in split.iterate_chunks():
        rest = [torch.cat([*rest, chunk])]
        while len(rest[0]) >= size:
            yield rest[0][:size]
            rest = [rest[0][size:]]
            size = next(sizes, BATCH)
    if rest and len(rest[0]):
        yield rest[0]
