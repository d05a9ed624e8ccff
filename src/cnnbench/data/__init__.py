"""Images as uint8 and signals as float32 in memory: sources, splits, and batches made on the training device."""

import cnnbench.data.sets as _sets
from cnnbench import registry
from cnnbench.data.augmentation import Augmentation
from cnnbench.data.dataset import (
    Dataset,
    DatasetInfo,
    Source,
    Split,
    to_image_size,
)
from cnnbench.data.keyed_numbers import KeyedNumbers
from cnnbench.data.loader import Batches, Change, balance_weights, normalize
from cnnbench.data.preparation import prepare
from cnnbench.data.registered_augmentation import RegisteredAugmentation, find_transform
from cnnbench.data.sources import find_data_shape, find_train_images, load_source

registry.discover(_sets)

__all__ = [
    "Augmentation",
    "Batches",
    "Change",
    "Dataset",
    "DatasetInfo",
    "KeyedNumbers",
    "RegisteredAugmentation",
    "Source",
    "Split",
    "balance_weights",
    "find_data_shape",
    "find_train_images",
    "find_transform",
    "load_source",
    "normalize",
    "prepare",
    "to_image_size",
]
