"""What a config does, seen before a run of it: its augmented images, and the losses of a learning-rate range test."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.schema import Config
from cnnbench.experiment.build import build_parts, choose_threads, make_settings
from cnnbench.experiment.factories import make_augmentation, make_batches
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.result_files import choose_names
from cnnbench.reproducibility import set_deterministic, use_threads
from cnnbench.storage.text import format_percent
from cnnbench.training.lr_range import measure_losses
from cnnbench.training.parts import set_training_mode
from cnnbench.training.trainer import build_stepper

log = logging.getLogger("cnnbench")
IMAGES, EPOCHS = 10, 7  # in the picture; at most one image of each class
CAPTION = 11  # characters of a class's name below an image


def draw_preview(config: Config, folder: Path) -> Path:
    """Draw training images and their versions in the first epochs to `augmented.png` in a folder; return its path.

    A mixed image is mixed with the next one in the picture; in training its partner changes with the order.
    """
    from cnnbench.runs import figures

    dataset = load_dataset(config)
    log.info("%s", dataset.describe())
    augmentation = make_augmentation(config, dataset.info, torch.device("cpu"))
    train, names = dataset.train, choose_names(dataset.info.class_names, CAPTION)
    chosen = torch.stack([(train.labels == label).nonzero()[0, 0] for label in train.labels.unique()[:IMAGES]])
    followed = torch.cat((chosen, chosen[:1])) if augmentation and augmentation.mixes else chosen
    shown = train[followed]
    variants, captions = [], []
    for epoch in range(EPOCHS):
        images, labels = shown.images, shown.labels
        if augmentation:
            images, labels = augmentation(images, labels, followed, epoch)
        variants.append(images.round().byte())
        captions.append([_describe_shares(label, names.shown) if label.dim() else "" for label in labels])
    figure = figures.plot_augmentation(
        f"augment={config.augment.name} on {dataset.info.name}: training images, and their versions in each epoch",
        train[chosen].images.numpy(),
        replace(names, shown=[names.shown[label] for label in train.labels[chosen]]),
        torch.stack(variants, 1).numpy(),
        np.array(captions).T,
    )
    path = folder / "augmented.png"
    figures.save_figure(figure, path)
    return path


def _describe_shares(label: Tensor, names: Sequence[str]) -> str:
    """The classes of a mixed image, one per line as `7 80%`, the largest share first."""
    shares = [(share, names[k]) for k, share in enumerate(label.tolist()) if share >= 0.005]
    return "\n".join(f"{name} {format_percent(share, 0)}" for share, name in sorted(shares, reverse=True))


def run_range_test(config: Config, rates: np.ndarray, *, advance: Callable[[], object] = lambda: None) -> np.ndarray:
    """The losses of training steps with these learning rates in turn, as `measure_losses` returns them.

    The network, the batches and their augmentation are those with which a run of the config begins. Validation and test
    images, the schedule of the learning rate and the average of the weights are not used.

    Raises:
        ValueError: the config cannot be trained, or names several devices.
    """
    if config.trainer.devices > 1:
        raise ValueError(f"trainer.devices={config.trainer.devices}: find-lr computes on one device: must be 1")
    set_deterministic(config.trainer.deterministic, compiled=config.trainer.compile)
    parts = build_parts(config, test=False)
    use_threads(choose_threads(config, parts.complexity))
    log.info("%s", parts.dataset.describe())
    batches = make_batches(parts.dataset.train, dataset=parts.dataset, config=config, device=parts.device, shuffle=True)
    settings = replace(make_settings(config, parts.dataset), ema=None)
    set_training_mode(parts.model)
    stepper = build_stepper(parts.model, batches, settings, parts.optimizer)
    return measure_losses(stepper, batches, rates, noise_seed=settings.noise_seed, advance=advance)
