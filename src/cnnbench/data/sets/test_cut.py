"""The test split of one's own images where they have none: cut by the names of the files, before any is opened."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cnnbench.data.files.listing import Listing
from cnnbench.data.preparation import cut_test, refuse_untested


def with_test(listing: Listing, fraction: float, split_seed: int) -> Listing:
    """The listing with a share of each class as its test split, the same for every run of that `split_seed`.

    Raises:
        ValueError: a class has a single image.
    """
    rows = listing.splits["train"]
    labels = torch.tensor(listing.labels)[rows.start : rows.stop]
    tested, rest = cut_test(labels, (os.fsencode(listing.paths[row]) for row in rows), fraction, split_seed)
    refuse_untested(listing.class_names, labels[rest], labels[tested])
    return _moved(listing, tested.tolist())


def _moved(listing: Listing, tested: Sequence[int]) -> Listing:
    """The listing with some of its training images, given by their rows in ascending order, as its test split."""
    val, chosen = listing.splits.get("val", range(0)), set(tested)
    train = [row for row in listing.splits["train"] if row not in chosen]
    order = [*train, *val, *tested]
    ends = np.cumsum([0, len(train), len(val), len(tested)]).tolist()
    splits = {name: range(*ends[at : at + 2]) for at, name in enumerate(("train", "val", "test"))}
    return replace(
        listing,
        paths=[listing.paths[row] for row in order],
        labels=[listing.labels[row] for row in order],
        versions=listing.versions[order],
        splits={name: rows for name, rows in splits.items() if rows},
    )
