"""Which image comes when in an epoch, and how much each class counts."""

import torch
from torch import Tensor

from cnnbench.reproducibility import generator


def order_epoch(labels: Tensor, sampler: str, seed: int, epoch: int) -> Tensor:
    """The indices of an epoch's images, a function of (labels, sampler, seed, epoch), on the CPU.

    Args:
        labels: int64, (N,).
        sampler: `uniform` takes every image once, `balanced` draws N times with replacement: a class, each equally
            likely, then one of its images.
    """
    if sampler == "uniform":
        return torch.randperm(len(labels), generator=generator(seed, "shuffle", epoch))
    random = generator(seed, "balanced_sampler", epoch)
    by_class = torch.argsort(labels.cpu(), stable=True)
    _, counts = torch.unique(labels.cpu(), return_counts=True)
    firsts = counts.cumsum(0) - counts
    chosen = torch.randint(len(counts), (len(labels),), generator=random)
    # Double: a float's 24 bits would leave images of a larger class out.
    places = (torch.rand(len(labels), dtype=torch.float64, generator=random) * counts[chosen]).long()
    return by_class[firsts[chosen] + places]


def balance_weights(labels: Tensor, num_classes: int) -> tuple[float, ...]:
    """A weight for each class, n / (K · n_c), so that all of them together count as if they were equally large.

    A class without images has weight 0, and K counts those that have some.

    Args:
        labels: int64, (N,).
    """
    counts = labels.bincount(minlength=num_classes)
    present = int((counts > 0).sum())
    return tuple(len(labels) / (present * count) if count else 0.0 for count in counts.tolist())
