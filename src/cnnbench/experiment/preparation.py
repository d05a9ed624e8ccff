"""Prepare training from a config: batches, settings, and the state before the first step."""

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import torch

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, balance_weights
from cnnbench.data.polarity import SAMPLE, find_polarity
from cnnbench.data.sets.arrays import NAME as ARRAYS
from cnnbench.experiment.build import Parts, make_batches
from cnnbench.experiment.data_record import record_data
from cnnbench.experiment.resume import compute_fingerprint
from cnnbench.processes.ranks import ALONE, Rank
from cnnbench.runs.folder import RunFolder
from cnnbench.training.state import State
from cnnbench.training.trainer import Settings, Splits, build_state, fit, follow


def prepare_training(
    config: Config, run: RunFolder, parts: Parts, *, test: bool = True, rank: Rank = ALONE
) -> tuple[State, Callable[..., Any]]:
    """A run's state before its first step, and `fit` with all arguments but `on_epoch`; in ranks above 0, `follow`.

    All ranks of a run call this together.
    """
    dataset = parts.dataset
    serve = partial(make_batches, dataset=dataset, config=config, device=parts.device)
    data = Splits(
        train=serve(dataset.train, shuffle=True).for_rank(rank),
        val=serve(dataset.val) if dataset.val else None,
        test=serve(dataset.test) if test else None,
    )
    settings = make_settings(config, dataset)
    record = (
        {}
        if rank.number
        else {  # only rank 0 writes checkpoints
            "config": compute_fingerprint(config),
            "data": _describe_preparation(dataset),
            "split": record_data(run, dataset, each=_has_own_images(config), test=test),
        }
    )
    state = build_state(run, parts.model, data, settings, optimizer=parts.optimizer, record=record)
    return state, partial(follow if rank.number else fit, state, data, settings, parts.schedule)


def _has_own_images(config: Config) -> bool:
    """Whether the data are the user's, so that `data.json` keeps a hash of each image."""
    return config.data.name == ARRAYS or "path" in config.data.options


def make_settings(config: Config, dataset: Dataset) -> Settings:
    """The settings of training that a config and its data give."""
    balanced = config.data.class_weights != "none"
    return Settings(
        noise_seed=config.all_seeds.dropout,
        lr=config.optimizer.lr,
        num_classes=dataset.info.num_classes,
        class_weights=balance_weights(dataset.train.labels, dataset.info.num_classes) if balanced else None,
        # Keys of `trainer` have the names of the settings that they are.
        **config.trainer.model_dump(include={field.name for field in fields(Settings)}),
    )


def _describe_preparation(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint records about the images, so that other images can be preprocessed in the same way."""
    polarity = None
    if dataset.info.in_channels == 1:  # only grey images have a polarity; reading colour images might decode them all
        sample = torch.arange(0, len(dataset.train), -(-len(dataset.train) // SAMPLE))
        polarity = find_polarity(dataset.train[sample].images)
    return {**asdict(dataset.info), "mean": dataset.mean, "std": dataset.std, "polarity": polarity}
