"""The share of planted label errors that `cnnbench check --labels` finds, and its time.

    CNNBENCH_DATA=DIR python benchmarks/check_labels.py [--data mnist] [--share 0.01] [--seed 0] [--again]

The labels of a share of the images of all splits are replaced by another class, drawn at random with the seed. An error
counts as found if its image is among the first suspects, of which there are twice as many as errors.
"""

import argparse
import logging
import time
from dataclasses import replace

import numpy as np
import torch

from cnnbench.cli.compose import compose_config
from cnnbench.data import Source, load_source
from cnnbench.experiment.data_check import RECIPE, LabelSuspect, find_label_suspects
from cnnbench.reproducibility import make_generator


def plant(source: Source, share: float, seed: int) -> tuple[Source, set[tuple[str, int]]]:
    """The source with wrong labels, and where they are."""
    parts = {"train": source.train, "val": source.val, "test": source.test}
    splits = {name: split for name, split in parts.items() if split is not None}
    total = sum(map(len, splits.values()))
    random = make_generator(seed, "planted_labels")
    chosen = torch.randperm(total, generator=random)[: round(share * total)].sort().values
    steps = torch.randint(1, source.info.num_classes, (len(chosen),), generator=random)
    wrong, start = set(), 0
    for name, split in splits.items():
        inside = (chosen >= start) & (chosen < start + len(split))
        places, labels = chosen[inside] - start, split.labels.clone()
        labels[places] = (labels[places] + steps[inside]) % source.info.num_classes
        splits[name] = replace(split, labels=labels)
        wrong |= {(name, place) for place in places.tolist()}
        start += len(split)
    return replace(source, train=splits["train"], val=splits.get("val"), test=splits.get("test")), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="search twice, and compare to the bit")
    parser.add_argument("overrides", nargs="*", help="changes of the recipe")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = compose_config([*RECIPE, f"data={given.data}", "data.download=false", *given.overrides])
    source = load_source(given.data, root=config.data.root, download=False, options=config.data.options)
    planted, wrong = plant(source, given.share, given.seed)
    total = len(source.train) + len(source.val or ()) + len(source.test or ())
    began, used = time.perf_counter(), time.process_time()
    suspects = find_label_suspects(config, planted)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(f"{total:,} images, {len(wrong):,} planted errors, {len(suspects):,} suspects")
    for times in (1, 2, 3):
        print(f"within the first {times * len(wrong):,}: {100 * measure_recall(suspects, wrong, times):.1f} %")
    print(f"{seconds:.0f} s, {cpu:.0f} s of processor time")
    if given.again:
        print("the same again, to the bit:", suspects == find_label_suspects(config, planted))


def measure_recall(suspects: list[LabelSuspect], wrong: set[tuple[str, int]], times: int) -> float:
    first = {(one.split, one.index) for one in suspects[: times * len(wrong)]}
    return float(np.mean([place in first for place in wrong]))


if __name__ == "__main__":
    main()
