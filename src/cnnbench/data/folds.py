"""K-fold cross-validation: divide the training images into folds, and test on one of them."""

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.seeds import Fold
from cnnbench.data.dataset import VALUES, Split
from cnnbench.reproducibility import make_generator
from cnnbench.storage.text import format_path, join_some

SHOWN = 5  # classes that a message names


def hold_out(names: tuple[str, ...], split: Split, fold: Fold, seed: int) -> tuple[Split, Split]:
    """The images of a fold, and all others, both in their order.

    Args:
        names: of the classes.

    Raises:
        ValueError: a class has fewer images than there are folds.
    """
    counts = split.labels.bincount(minlength=len(names)).tolist()
    few = {name: count for name, count in zip(names, counts, strict=True) if 0 < count < fold.total}
    if few:
        counted = join_some([f"{format_path(name)!r} ({count})" for name, count in few.items()], SHOWN)
        least = min(few.values())
        fewer = f"use sweep.folds={least}, or add images" if least > 1 else "add images"
        raise ValueError(
            f"sweep.folds={fold.total}: each class needs at least as many training images as there are folds, but "
            f"there are fewer of {counted}: {fewer}"
        )
    held_out = assign_folds(split, fold.total, seed=seed, purpose="folds") == fold.number - 1
    return split[torch.nonzero(held_out).flatten()], split[torch.nonzero(~held_out).flatten()]


def assign_folds(split: Split, count: int, *, seed: int, purpose: str) -> Tensor:
    """The fold of each image, from 0, int64 (N,): stratified, and a function of the images, labels, count and seed.

    Args:
        purpose: as in `make_generator`.
    """
    assert split.marks is not None, "the source has marks"
    order = torch.randperm(len(split), generator=make_generator(seed, purpose))
    by_class = order[split.labels[order].argsort(stable=True)]
    folds = torch.empty(len(split), dtype=torch.int64)
    folds[by_class] = torch.arange(len(split)) % count
    # Equal images go to the fold of the first, because a copy to train on would give the tested one away.
    _, firsts, kinds = np.unique(split.marks[:, VALUES].numpy(), return_index=True, return_inverse=True)
    return folds[torch.from_numpy(firsts[kinds])]
