"""Images as uint8 and signals as float32 in memory: sources, splits, and batches made on the training device."""

import cnnbench.data.sets as _sets
from cnnbench import registry
from cnnbench.data.augmentation import Augmentation
from cnnbench.data.dataset import Dataset, DatasetInfo, Source, Split, data_shape, image_size_of, load_source
from cnnbench.data.loader import Batches, normalize
from cnnbench.data.preparation import prepare
from cnnbench.data.sampling import balanced_weights

registry.discover(_sets)

__all__ = [
    "Augmentation",
    "Batches",
    "Dataset",
    "DatasetInfo",
    "Source",
    "Split",
    "balanced_weights",
    "data_shape",
    "image_size_of",
    "load_source",
    "normalize",
    "prepare",
]
