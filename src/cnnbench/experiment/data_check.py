"""`cnnbench check`: the findings of `quality` on a config's data, and images whose label is probably wrong.

A small network that has not seen an image judges its label. The training images are divided into folds: a network
trained on the other folds predicts each fold, and one trained on all of them predicts the images of validation and
test. From the probabilities, cleanlab (the extra `check`) estimates how many labels of each class are wrong and which:
Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial
Intelligence Research 70, 2021, arXiv:1911.00068.
"""

import importlib.util
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch

from cnnbench.config.schema import Config
from cnnbench.data import Source, Split, load_source, prepare
from cnnbench.data.dataset import PLACE
from cnnbench.data.folds import assign_folds
from cnnbench.experiment.build import build_parts, choose_threads, prepare_training
from cnnbench.experiment.loading import get_data_settings
from cnnbench.metrics.confusion import DENSE
from cnnbench.quality.checking import check_images
from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding
from cnnbench.quality.images import CheckedImages, read_images
from cnnbench.reproducibility import set_deterministic, use_threads
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.text import format_percent
from cnnbench.training.epoch import train_alone

log = logging.getLogger("cnnbench")
# Overrides for the network: the recipe of experiment=lenet5_fast, which learns MNIST to 99 % in half an epoch,
# or its counterpart for signals. One thread, so that the suspects do not depend on the machine.
_MUON = ["optimizer=muon", "optimizer.lr=0.024", "optimizer.momentum=0.85", "optimizer.weight_decay=0.1"]
_SCHEDULE = ["scheduler=one_cycle", "scheduler.peak_at=0.06", "scheduler.initial=0.3", "scheduler.final=0.0"]
_OTHERS = ["scheduler.anneal=linear", "trainer.batch_size=128", "trainer.label_smoothing=0.1", "trainer.threads=1"]
RECIPE = ["model=lenet5", *_MUON, *_SCHEDULE, *_OTHERS]
SIGNAL_RECIPE = ["model=sequence_cnn", "optimizer=adam", "scheduler=one_cycle", "trainer.threads=1"]
IMAGE_SIZE = 32  # of one's own images, unless `data.image_size` says otherwise
FOLDS = 5
IMAGES_SEEN = 120_000  # by each network: two epochs of MNIST, or more of a smaller dataset
MOST_EPOCHS = 60


class Checked(NamedTuple):
    """A check, and the images that it is about."""

    check: DataCheck
    images: CheckedImages


def check_data(config: Config) -> Checked:
    """Check all images of a config's data, in the splits that their source has; `data.exclude` leaves none out."""
    data = config.data
    settings = get_data_settings(config)
    images = read_images(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    return Checked(check_images(images), images)


def add_label_suspects(
    check: DataCheck, images: CheckedImages, config: Config, *, epochs: int | None = None
) -> DataCheck:
    """The check with one more finding: images whose label is probably wrong, the most doubtful first.

    Args:
        images: those of the check.
        config: of the same data, with the network that judges the labels.
        epochs: as in `find_label_suspects`, and so are the errors.
    """
    config = config.model_copy(deep=True)
    data, settings = config.data, get_data_settings(config)
    if "on_bad_image" in data.options:
        data.options["on_bad_image"] = "skip"  # unreadable files are a finding of their own
        settings["image_size"] = data.image_size or IMAGE_SIZE
    source = load_source(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    names = source.info.class_names
    cases = []
    for one in find_label_suspects(config, source, epochs=epochs):
        row, marks = images.splits[one.split].start + one.index, source.splits[one.split].marks
        if source.paths is not None:  # rows of the check also count unreadable files
            assert marks is not None
            row = int(marks[one.index, PLACE])
        image = images.name_image(row)
        own, likeliest = format_percent(one.own_probability, 1), format_percent(one.probability, 1)
        detail = f"looks like {names[one.likeliest]} ({likeliest}), labelled {names[one.label]} ({own})"
        cases.append(Case((image,), (0,), detail, image.label))
    findings = {**check.findings, "label": Finding(len(cases), tuple(cases))}
    return replace(check, findings={kind: findings[kind] for kind in KINDS if kind in findings})


@dataclass(frozen=True)
class LabelSuspect:
    """An image whose label is doubted."""

    split: str
    index: int  # in the split of the source
    label: int
    likeliest: int  # the class that the network predicts
    probability: float  # of the likeliest class
    own_probability: float  # of the label


def require_cleanlab() -> None:
    """Raise a ValueError with the command to install cleanlab if it is missing."""
    if importlib.util.find_spec("cleanlab") is None:
        raise ValueError("--labels needs the package cleanlab: pip install 'cnnbench[check]'")


def find_label_suspects(config: Config, source: Source, *, epochs: int | None = None) -> list[LabelSuspect]:
    """The images of all splits whose label is probably wrong, the most doubtful first; the same for the same seed.

    Classes of fewer than `FOLDS` training images are not judged.

    Args:
        config: the network and how it is trained.
        epochs: of each network; None makes them depend on the number of images.

    Raises:
        ValueError: cleanlab is not installed, or more than a thousand classes.
    """
    require_cleanlab()
    classes = source.info.num_classes
    if classes > DENSE:
        raise ValueError(f"--labels is for up to {DENSE:,} classes, and {source.info.name} has {classes:,}")
    source = source.add_marks()
    config = config.model_copy(deep=True)
    config.trainer.epochs = epochs or min(MOST_EPOCHS, math.ceil(IMAGES_SEEN / len(source.train)))
    config.scheduler.warmup_epochs = min(config.scheduler.warmup_epochs, config.trainer.epochs)
    judged = {name: split for name, split in source.splits.items() if len(split)}
    probabilities = {"train": _predict_folds(config, source)}
    for name in judged.keys() - {"train"}:
        log.info("label suspects: a network trained on all training images judges %s", name)
        probabilities[name] = _predict(config, source, source.train, judged[name])
    enough = source.train.labels.bincount(minlength=classes) >= FOLDS
    return _choose_suspects(judged, probabilities, enough.numpy())


def _predict_folds(config: Config, source: Source) -> np.ndarray:
    """The probabilities of the training images, float64 (N, K), each from a network that has not seen the image."""
    train = source.train
    folds = assign_folds(train, FOLDS, seed=config.seed, purpose="label_folds")
    found = np.zeros((len(train), source.info.num_classes))
    for fold in range(FOLDS):
        log.info("label suspects: fold %d of %d", fold + 1, FOLDS)
        held_out = torch.nonzero(folds == fold).flatten()
        if len(held_out):
            rest = torch.nonzero(folds != fold).flatten()
            found[held_out.numpy()] = _predict(config, source, train[rest], train[held_out])
    return found


def _predict(config: Config, source: Source, train: Split, judged: Split) -> np.ndarray:
    """The probabilities of `judged`, float64 (n, K), from a network trained on `train`. Nothing is kept."""
    dataset = prepare(
        Source(source.info, train, judged),
        seed=config.seed,
        image_size=config.data.image_size,
        normalization=config.data.normalize,
    )
    set_deterministic(config.trainer.deterministic)
    parts = build_parts(config, dataset=dataset)
    use_threads(choose_threads(config, parts.complexity))
    with TemporaryDirectory() as folder, _without_messages():
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        _, fit = prepare_training(config, run, parts)
        test = train_alone(fit()).test
    assert test is not None, "`prepare_training` tests by default"
    assert test.classified is not None, "the network classifies"
    assert test.classified.probabilities is not None, "fit keeps them"
    return test.classified.probabilities.astype(np.float64)


@contextmanager
def _without_messages() -> Iterator[None]:
    """Log only warnings: an epoch's figures say nothing about the labels."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _choose_suspects(
    judged: dict[str, Split], probabilities: dict[str, np.ndarray], enough: np.ndarray
) -> list[LabelSuspect]:
    """The suspects among images with these probabilities, of the classes with enough images to judge."""
    from cleanlab.filter import find_label_issues

    places = [(name, index) for name, split in judged.items() for index in range(len(split))]
    labels = np.concatenate([split.labels.numpy() for split in judged.values()])
    shares = np.concatenate([probabilities[name] for name in judged])
    rows = np.flatnonzero(enough[labels])
    classes = np.flatnonzero(enough)
    known = shares[rows][:, classes]
    known /= known.sum(1, keepdims=True)
    own = np.searchsorted(classes, labels[rows])  # cleanlab wants classes without gaps
    # One process, because several would be slower to start than the work takes.
    ranked = find_label_issues(own, known, return_indices_ranked_by="self_confidence", n_jobs=1)
    suspects = []
    for row in rows[ranked].tolist():
        split, index = places[row]
        label, likeliest = int(labels[row]), int(shares[row].argmax())
        share, own_share = float(shares[row, likeliest]), float(shares[row, label])
        suspects.append(LabelSuspect(split, index, label, likeliest, share, own_share))
    return suspects
