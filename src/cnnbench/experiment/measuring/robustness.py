"""Measure a finished run's best weights on images that are shifted, rotated, blurred, occluded and so on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cnnbench.analysis.perturbations import KINDS, Case, choose_kinds, list_cases, measure_cases
from cnnbench.data.contents import digest
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement, sample_images
from cnnbench.runs.robustness import Robustness, Row


@dataclass(frozen=True)
class ChangedImages:
    """Applies one change to the batches of a split."""

    case: Case
    places: Tensor  # int64 (N,), where the images are in the whole split; random changes depend on it
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
        choice: None is the run's own test split.
        max_images: how many images at most; a random sample, the same for every run.
        max_shift: as in `list_cases`.

    Raises:
        ValueError: as `prepare_measurement`; an unknown kind, one that does not fit the data, a shift out of every
            image, or a run without classes.
    """
    choice = choice or DataChoice()
    ready = prepare_measurement(path, choice, device=device, batch_size=batch_size)
    return measure_changes(ready, kinds, split=choice.split, max_images=max_images, max_shift=max_shift)


def measure_changes(
    ready: Measurement, kinds: Sequence[str], *, split: str, max_images: int | None, max_shift: int | None
) -> Robustness:
    """`measure_robustness` of a loaded run; `split` names the split that the images belong to."""
    ready.trained.require_classes(ready.model)
    info = ready.trained.info
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

    found = measure_cases(predict, images.labels.numpy(), cases)
    return Robustness(
        data=ready.trained.config.data.name,
        split=split,
        images=len(images),
        images_sha256=digest(ready.found.dataset.info, images),
        notes=(*ready.found.notes, *notes),
        rows=tuple(
            Row(
                kind=case.kind,
                strength=case.strength,
                unit=KINDS[case.kind].unit,
                arguments=case.arguments,
                accuracy=accuracy,
                consistency=consistency,
            )
            for case, accuracy, consistency in found
        ),
    )
