"""Batches of a split that lies in memory, in an order that is a function of (seed, epoch)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cnnbench.data.dataset import Split
from cnnbench.reproducibility import generator


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels 0…255 as float32, `(images / 255 − mean) / std`, in one pass over the batch.

    Args:
        images: uint8, (N, C, H, W).
        mean, std: float32, (C,), for pixels scaled to 0…1.
    """
    scale = 1 / (255 * std)
    if len(scale) == 1:
        return images.to(torch.float32).mul_(scale).sub_(mean / std)
    shape = (1, -1, 1, 1)
    return images.to(torch.float32).mul_(scale.view(shape)).sub_((mean / std).view(shape))


class Batches:
    """A split on one device, served in batches of normalised images.

    Args:
        split: images and labels, already on the device.
        batch_size: images a batch; the last batch of an epoch may be smaller.
        mean, std: per channel, as in `normalize`.
        shuffle_seed: the run's seed; None serves the split in its own order.
        channels_last: give images that memory format.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shuffle_seed: int | None = None,
        channels_last: bool = False,
    ) -> None:
        self.device = device = split.images.device
        self.images = split.images
        self.labels = split.labels
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.std = torch.tensor(std, dtype=torch.float32, device=device)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch: images float32 (N, C, H, W), labels int64 (N,)."""
        for indices in self._order(number):
            batch = normalize(self.images.index_select(0, indices), self.mean, self.std)
            yield batch.contiguous(memory_format=self.memory_format), self.labels.index_select(0, indices)

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        if self.shuffle_seed is None:
            order = torch.arange(len(self.labels))
        else:
            # Drawn on the CPU, so that every device sees the same order.
            order = torch.randperm(len(self.labels), generator=generator(self.shuffle_seed, "shuffle", epoch))
        return order.to(self.device).split(self.batch_size)
