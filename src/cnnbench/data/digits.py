"""The 1,797 handwritten digits that come with scikit-learn: 8×8 pixels, 17 grey levels, no download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
"""

import numpy as np
import torch

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.preparation import stratified_split
from cnnbench.registry import register

TEST_IMAGES = 360


@register("data", "digits")
def digits(root: str, download: bool) -> Source:
    """1,437 training and 360 test images. The cut is stratified and the same for every seed.

    Args:
        root, download: not used; the images are part of scikit-learn.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(pixels).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    test, train = stratified_split(labels, TEST_IMAGES, torch.Generator().manual_seed(1797))
    info = DatasetInfo("digits", in_channels=1, image_size=8, class_names=tuple("0123456789"))
    return Source(info, Split(images[train], labels[train]), Split(images[test], labels[test]))
