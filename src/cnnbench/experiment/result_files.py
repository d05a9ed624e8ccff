"""Write the files of a measured split and of a training run, and choose the pictures to draw."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnbench.data import Batches, Dataset, Split
from cnnbench.metrics import score_classes
from cnnbench.metrics.ranking import RANKED_CLASSES, list_thresholds, rank_classes
from cnnbench.reproducibility import make_generator
from cnnbench.runs.contents import write_evaluation
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.pictures import (
    Picture,
    draw_confusion,
    draw_mistakes,
    draw_rankings,
    draw_reconstructions,
    draw_reliability,
    draw_samples,
    draw_training_curves,
)
from cnnbench.runs.shown_images import SAMPLES, choose_of_each_class, choose_reconstructions, find_worst_mistakes
from cnnbench.storage.arrays import write_npz
from cnnbench.storage.csv_tables import write_csv
from cnnbench.training.evaluation import Evaluation
from cnnbench.training.trainer import Outcome

if TYPE_CHECKING:  # imports matplotlib, which only drawing needs
    from cnnbench.runs.class_names import Names

log = logging.getLogger("cnnbench")
NUMBERS_NAMED = 20  # classes in the warning that pictures show numbers instead of names
KEPT_MISTAKES, KEPT_BYTES, KEPT_SIDE = 256, 2**19, 64  # images, bytes in total, pixels of the longer side


def write_result_files(
    folder: Path,
    evaluation: Evaluation,
    split: Split,
    dataset: Dataset,
    *,
    model: nn.Module,
    serve: Callable[[Split], Batches],
    most_curves: int = 2,
    temperature: float | None = None,
) -> list[Picture]:
    """Write confusion matrix, scores by class and predictions or, for a task without classes, the loss of each image.

    Args:
        split: the measured images.
        serve: makes a split's batches.
        most_curves: up to this many classes, `thresholds.csv` is written and `ranking.png` drawn, which takes longer
            than the other pictures.
        temperature: that calibrates the probabilities in the pictures; `predictions.npz` keeps the network's own.

    Returns:
        The pictures to draw: confusion matrix, reliability and perhaps ranking, or some reconstructions.
    """
    found = evaluation.classified
    if found is None:
        write_npz(folder / "reconstruction.npz", losses=evaluation.losses)
        shown = choose_reconstructions(evaluation.losses)
        few = split[torch.from_numpy(shown)]
        batches = serve(few)
        images, made = batches.permute(few.images).numpy(), _reconstruct(model, batches, dataset)
        return [partial(draw_reconstructions, folder, images, made, evaluation.losses[shown])]
    assert found.probabilities is not None, "the test keeps them"
    names = dataset.info.class_names
    per_class: list[dict[str, Any]] = score_classes(found.confusion, names)
    pictures = [partial(draw_confusion, folder), partial(draw_reliability, folder, temperature)]
    if len(names) <= RANKED_CLASSES and found.top_classes is None:
        rankings = rank_classes(found.labels, found.probabilities)
        for row, ranking in zip(per_class, rankings, strict=True):
            areas = {"roc_auc": ranking.roc_auc, "average_precision": ranking.average_precision}
            row |= {key: None if math.isnan(area) else area for key, area in areas.items()}
        if len(names) <= most_curves:
            write_csv(folder / "thresholds.csv", list_thresholds(rankings, names))
            pictures.append(partial(draw_rankings, folder))
    write_evaluation(folder, class_names=names, per_class=per_class, **vars(found))
    if not all(name.isascii() for name in names):  # every font has those letters
        choose_names(names)
    return pictures


def write_run_files(run: RunFolder, outcome: Outcome, split: Split, monitor: str) -> list[Picture]:
    """Write some mistakes of a training run, if classes were tested; returns the pictures to draw.

    Args:
        split: the test images.
        monitor: what chose the best epoch.
    """
    pictures = [partial(draw_training_curves, run, outcome.best_epoch, monitor)]
    if outcome.test is not None and (found := outcome.test.classified):
        assert found.probabilities is not None, "the test keeps them"
        write_mistakes(run.path, found.labels, found.predictions, split)
        worst = find_worst_mistakes(found.labels, found.predictions, found.probabilities)
        shown = split[torch.from_numpy(worst)].images if len(worst) else torch.zeros(0, *split.shape)
        pictures.append(partial(draw_mistakes, run.path, shown.numpy()))
    return pictures


def write_mistakes(folder: Path, labels: np.ndarray, predictions: np.ndarray, split: Split) -> None:
    """Write `mistakes.npz`: some misclassified images, so that a report can show them without the dataset.

    The file's arrays are `indices` (M,), in the split, and `images`, uint8 (M, C, H, W), or float32 (M, C, L) signals.
    There are at most `KEPT_MISTAKES` images, in `KEPT_BYTES`; those with a side beyond `KEPT_SIDE` pixels are reduced.

    Args:
        labels, predictions: (N,) in the order of the split.
    """
    # The order depends on the size of the split alone, so that two runs keep the mistakes that they share.
    order = torch.randperm(len(labels), generator=make_generator(0, "mistakes", len(labels)))
    wrong = order[torch.from_numpy(labels != predictions)[order]]
    # Sorted, because a streamed dataset is faster to read in order.
    indices = wrong[: min(KEPT_MISTAKES, _count_fitting(split))].sort().values
    write_npz(folder / "mistakes.npz", indices=indices.numpy(), images=_reduce_images(split, indices))


def prepare_samples(run: RunFolder, dataset: Dataset) -> list[Picture]:
    """The picture of some training images, of each class in turn, unless an earlier process has drawn it."""
    if (run.path / "samples.png").exists():
        return []
    train = dataset.train
    most = max(1, min(SAMPLES, _count_fitting(train)))
    chosen = torch.from_numpy(choose_of_each_class(train.labels.cpu().numpy(), most))
    labels = train.labels[chosen].cpu().numpy()
    images = _reduce_images(train, chosen)
    return [partial(draw_samples, run.path, images, labels, dataset.info.class_names, len(train))]


def _reduce_size(split: Split) -> list[int]:
    """The size of images that are kept or drawn, of `KEPT_SIDE` pixels a side at most; signals stay as they are."""
    size = split.shape[1:]
    factor = min(1.0, KEPT_SIDE / max(size)) if len(size) == 2 else 1.0
    return [max(1, round(side * factor)) for side in size]


def _count_fitting(split: Split) -> int:
    """How many images of a split fit into `KEPT_BYTES`."""
    size = _reduce_size(split)
    return KEPT_BYTES // (split.shape[0] * math.prod(size) * (1 if len(size) == 2 else 4))


def _reduce_images(split: Split, indices: Tensor) -> np.ndarray:
    """Some images of a split, reduced, uint8, or signals, float32."""
    size = _reduce_size(split)
    images = split[indices].images if len(indices) else torch.zeros(0, *split.shape)
    if size != [*split.shape[1:]]:
        images = functional.interpolate(images.float(), size, mode="area").round()
    return (images.byte() if len(size) == 2 else images).cpu().numpy()


def write_skipped(run: RunFolder, dataset: Dataset) -> None:
    """Write `skipped.csv`, if files could not be read and were left out."""
    if dataset.skipped:
        rows = [{"path": path, "reason": reason} for path, reason in dataset.skipped]
        write_csv(run.path / "skipped.csv", rows)
        files = "1 file was" if len(rows) == 1 else f"{len(rows):,} files were"
        log.info("%s skipped; skipped.csv lists the reasons", files)


def choose_names(class_names: Sequence[str], longest: int = 16) -> "Names":
    """Class names as pictures show them. A warning lists the names that are replaced by numbers."""
    from cnnbench.runs.class_names import fit_names

    names = fit_names(class_names, longest)
    if names.numbered:
        listed = ", ".join(f"#{k} {class_names[k]}" for k in names.numbered[:NUMBERS_NAMED])
        log.warning(
            "no installed font has the letters of %d of %d class names; pictures show numbers instead: %s%s. "
            "To see the names, install a font that has the letters, such as one of the Noto fonts",
            len(names.numbered), len(class_names), listed, ", …" if len(names.numbered) > NUMBERS_NAMED else "",
        )  # fmt: skip
    return names


@torch.no_grad()
def _reconstruct(model: nn.Module, batches: Batches, dataset: Dataset) -> np.ndarray:
    """What an autoencoder makes of images, uint8 (N, C, H, W)."""
    model.eval()
    outputs = torch.cat([model(images).float().cpu() for images, _ in batches.iterate_epoch()])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (dataset.mean, dataset.std))
    return ((outputs * std + mean) * 255).round().clamp(0, 255).byte().numpy()
