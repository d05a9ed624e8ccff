"""Measure a finished run's best weights on images that are shifted, rotated, blurred, occluded and so on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.analysis.perturbations import KINDS, Case, choose_kinds, list_cases, measure_cases
from cnnbench.data.contents import digest
from cnnbench.experiment.evaluate import Measurement, prepare_measurement
from cnnbench.experiment.measured_data import DataChoice
from cnnbench.reproducibility import make_generator
from cnnbench.runs.robustness import Robustness, Row
from cnnbench.training.tasks import get_task


@dataclass(frozen=True)
class ChangedImages:
    """Applies one change to the batches of a split.

    Attributes:
        places: int64 (N,), where the images of the split are in the whole split; random changes depend on it.
    """

    case: Case
    places: Tensor
    mixes = False

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int, /) -> tuple[Tensor, Tensor]:
        """The changed images, and their labels."""
        return self.case.apply(images, self.places[indices.cpu()].tolist()), labels


def measure_robustness(
    path: Path,
    kinds: Sequence[str] = (),
    *,
    choice: DataChoice | None = None,
    max_images: int | None = None,
    max_shift: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> Robustness:
    """Measure accuracy and consistency under each change of some kinds.

    Args:
        kinds: of `KINDS`; none means all that fit the data.
        choice: what to measure on; None is the run's own test split.
        max_images: how many images at most; a random sample, the same for every run.
        max_shift: as in `list_cases`.

    Raises:
        ValueError: as `prepare_measurement`; an unknown kind, one that does not fit the data, a shift out of every
            image, or a run without classes.
    """
    ready = prepare_measurement(path, choice or DataChoice(), device=device, batch_size=batch_size)
    return measure_changes(
        ready, kinds, split=(choice or DataChoice()).split, max_images=max_images, max_shift=max_shift
    )


def measure_changes(
    ready: Measurement, kinds: Sequence[str], *, split: str, max_images: int | None, max_shift: int | None
) -> Robustness:
    """`measure_robustness` of a loaded run; `split` names the split that the images belong to."""
    task, info = get_task(ready.model), ready.trained.info
    if not task.has_classes:
        raise ValueError(
            f"{str(ready.trained.folder.path)!r} is a {task.name} run ({ready.trained.config.model.name}): "
            "it has no classes whose accuracy could be measured"
        )
    chosen = choose_kinds(kinds, info.dimensions)
    notes = [
        f"{kind} is left out: {info.name} holds signals, and it changes images" for kind in kinds if kind not in chosen
    ]
    if max_shift is not None and max_shift >= min(info.size):
        what = "pixels of the images" if info.dimensions == 2 else "samples of the signals"
        raise ValueError(f"--max-shift {max_shift}: must be less than the {min(info.size)} {what}")
    places = sample_images(len(ready.found.split), max_images)
    images = ready.found.split if max_images is None else ready.found.split[places]
    cases = [case for kind in chosen for case in list_cases(kind, info.size, max_shift)]

    def predict(case: Case | None) -> np.ndarray:
        change = None if case is None else ChangedImages(case, places)
        classified = ready.evaluate(ready.serve(images, change=change)).classified
        assert classified is not None
        return classified.predictions

    return Robustness(
        data=ready.trained.config.data.name,
        split=split,
        images=len(images),
        images_sha256=digest(ready.found.dataset.info, images),
        notes=(*ready.found.notes, *notes),
        rows=tuple(_make_row(*found) for found in measure_cases(predict, images.labels.numpy(), cases)),
    )


def sample_images(count: int, most: int | None) -> Tensor:
    """The indices of the images to measure, in order: all, or a sample that depends only on their number."""
    if most is None:
        return torch.arange(count)
    return torch.randperm(count, generator=make_generator(0, "robustness images", count))[:most].sort().values


def _make_row(case: Case, accuracy: float, consistency: float) -> Row:
    return Row(
        kind=case.kind,
        strength=case.strength,
        unit=KINDS[case.kind].unit,
        arguments=case.arguments,
        accuracy=accuracy,
        consistency=consistency,
    )
