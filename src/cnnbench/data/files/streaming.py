"""Images that stay in their files, decoded whenever a batch needs them."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.files.decoding import decode_all
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage


class ImageFiles:
    """Images that stay in their files, decoded on access by worker processes; with 0 workers, in this one."""

    def __init__(self, paths: Sequence[str], how: Decoding, workers: int) -> None:
        self.shape = (len(paths), *how.shape)
        self.paths, self.how, self.workers = paths, how, workers

    def stream(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images in the rows of each part, uint8 (n, C, H, W) on the CPU.

        Raises:
            ValueError: a file can no longer be read.
        """
        files = (self.paths[row] for part in parts for row in part.tolist())
        with closing(decode_all(files, self.how, workers=self.workers)) as images:
            for part in parts:
                together = np.empty((len(part), *self.how.shape), np.uint8)
                for place, image in zip(range(len(part)), images, strict=False):
                    if isinstance(image, BadImage):
                        raise ValueError(f"{image} (it could be read before: has it changed?)")
                    together[place] = image
                yield torch.from_numpy(together)
