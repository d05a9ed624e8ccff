"""Images as uint8 and signals as float32 in memory: sources, splits, and batches made on the training device.

Names are imported on first use, so that decoding image files does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.data.augmentation import Augmentation
    from cnnbench.data.dataset import Dataset, DatasetInfo, Source, Split, to_image_size
    from cnnbench.data.keyed_numbers import KeyedNumbers
    from cnnbench.data.loader import Batches, Change, balance_weights, normalize
    from cnnbench.data.preparation import prepare
    from cnnbench.data.registered_augmentation import RegisteredAugmentation, find_transform
    from cnnbench.data.sources import find_data_shape, find_train_images, load_source

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
_MODULES = (
    "sources",
    "dataset",
    "loader",
    "preparation",
    "augmentation",
    "keyed_numbers",
    "registered_augmentation",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        # All at once, because `sources` registers the datasets.
        for module in _MODULES:
            found = vars(importlib.import_module(f"{__name__}.{module}"))
            globals().update({key: found[key] for key in __all__ if key in found})
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
