"""The 1,797 handwritten digits that come with scikit-learn: 8×8 pixels, 17 grey levels, no download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.preparation import split_by_class
from cnnbench.registry import register

ALL_IMAGES, TEST_IMAGES = 1797, 360


@register("data", "digits", train_images=ALL_IMAGES - TEST_IMAGES)
def digits(test_seed: int = 0) -> Source:
    """1,437 training and 360 test images, a stratified cut that only `test_seed` changes."""
    grey, target = _read_grey()
    images = torch.from_numpy(np.rint(grey * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(target)
    test, train = split_by_class(labels, TEST_IMAGES, torch.Generator().manual_seed(1797 + test_seed))
    info = DatasetInfo("digits", in_channels=1, image_size=8, class_names=tuple("0123456789"))
    return Source(info, Split(images[train], labels[train]), Split(images[test], labels[test]))


def _read_grey() -> tuple[np.ndarray, np.ndarray]:
    """Grey levels from 0 to 16, (N, 8, 8), and labels, int64 (N,), as from `sklearn.datasets.load_digits`."""
    # Importing scikit-learn takes a second, of a demo's ten; reading its file takes a tenth of that.
    package = importlib.util.find_spec("sklearn")
    for place in package.submodule_search_locations or () if package else ():
        path = Path(place, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            with gzip.open(path, "rt", encoding="ascii") as file:
                rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # it has moved

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)
