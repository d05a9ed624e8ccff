"""Images as uint8 and signals as float32 in memory: sources, splits, and batches made on the training device."""

import cnnbench.data as _package
from cnnbench import registry
from cnnbench.data.augmentation import Augmentation
from cnnbench.data.dataset import Dataset, DatasetInfo, Source, Split, data_shape, load_source, prepare
from cnnbench.data.loader import Batches, normalize

registry.discover(_package)

__all__ = [
    "Augmentation",
    "Batches",
    "Dataset",
    "DatasetInfo",
    "Source",
    "Split",
    "data_shape",
    "load_source",
    "normalize",
    "prepare",
]
