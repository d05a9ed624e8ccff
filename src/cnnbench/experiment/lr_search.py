"""The learning-rate range test of a config, on its training images alone."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cnnbench.config.schema import Config
from cnnbench.experiment.build import build_parts, choose_threads, make_batches
from cnnbench.experiment.preparation import make_settings
from cnnbench.reproducibility import set_deterministic, use_threads
from cnnbench.training.lr_range import measure_losses
from cnnbench.training.parts import set_training_mode
from cnnbench.training.trainer import build_step

log = logging.getLogger("cnnbench")


def run_range_test(config: Config, rates: np.ndarray, *, advance: Callable[[], object] = lambda: None) -> np.ndarray:
    """The losses of training steps with these learning rates in turn, as `measure_losses` returns them.

    The network, the batches and their augmentation are those with which a run of the config begins. Neither validation
    nor test images are read; the schedule of the learning rate and the average of the weights have no part.

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
    step = build_step(parts.model, batches, settings, parts.optimizer)
    return measure_losses(step, batches, rates, noise_seed=settings.noise_seed, advance=advance)
