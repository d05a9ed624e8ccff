"""Load the data that a config names, without the images that it excludes, split and measured."""

from dataclasses import replace
from typing import Any

import torch

from cnnbench.config.schema import Config
from cnnbench.data import Dataset, Source, load_source, prepare
from cnnbench.data.exclusion import collect_marks, exclude_images, read_image_list
from cnnbench.experiment.training_check import check_before_training


def load_dataset(
    config: Config,
    *,
    test_on_all: bool = False,
    test: bool = True,
    classes: list[str] | None = None,
    listed: str | None = None,
) -> Dataset:
    """Load the config's data, split and measured.

    Args:
        test_on_all: data without a test split are all tested, because the model has not seen them.
        test: whether the test images may be read; otherwise the test split is empty.
        classes: those of the run to be measured; one's own images or signals may lack some.
        listed: a file that lists images, whose marks are returned as `Dataset.listed`.

    Raises:
        ValueError: unknown or missing data, or no images left to train on.
        RefusedData: as `check_before_training` does.
    """
    data, fold = config.data, config.data.held_out
    # A cross-validation never reads the test split.
    settings = get_data_settings(config) | {"with_test": test and fold is None, "classes": classes}
    if test_on_all:
        settings["test_fraction"] = None
    source = load_source(data.name, root=data.root, download=data.download, options=data.options, settings=settings)
    marks = collect_marks(source, read_image_list(listed, "--exclude")) if listed is not None else None
    exclusion = None
    if data.exclude is not None:
        # The data that a finished run is measured on may have changed since its list was made.
        images = read_image_list(data.exclude, "data.exclude")
        source, exclusion = exclude_images(source, images, strict=classes is None)
    if test_on_all and source.test is None:
        source = replace(source, test=source.train)
    dataset = prepare(
        source,
        seed=config.all_seeds.split,
        test_seed=data.test_seed,
        test_fraction=data.test_fraction,
        val_fraction=data.val_fraction,
        train_limit=data.train_limit,
        fold=fold,
        image_size=data.image_size,
        normalization=data.normalize,
    )
    dataset = replace(dataset, exclusion=exclusion, listed=marks, fold=fold)
    if fold is not None:
        dataset = dataset if test else replace(dataset, test=dataset.test[torch.arange(0)])
        source = Source(dataset.info, dataset.train, dataset.test, dataset.val, paths=dataset.paths)
    is_new = classes is None and test  # a search reads no test images, and its training images are not in two splits
    return check_before_training(dataset, source, config) if is_new else dataset


def get_data_settings(config: Config) -> dict[str, Any]:
    """The settings of all datasets; each builder takes those that it has parameters for."""
    data, threads = config.data, config.trainer.threads
    return {
        "image_size": data.image_size,
        "test_fraction": data.test_fraction,
        "test_seed": data.test_seed,
        "threads": threads if isinstance(threads, int) else None,
    }
