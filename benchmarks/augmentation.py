"""The cost of augmentation on MNIST: an epoch of LeNet-5 with and without it, and torchvision's transforms.

    CNNBENCH_DATA=DIR python benchmarks/augmentation.py --rounds 5

The ways take turns within each round; the script prints medians of the times and of the ratios within each round.
Seconds are wall time or, with --processor, processor time of one thread, which a busy machine changes little.

Epochs: all of `fit` for an epoch at batch 64, with only ten test images.
Images alone: every training image once, augmented, normalised and in batches of 64, without training. torchvision's way
is a DataLoader (in --workers processes, or in this one) over a dataset of uint8 tensors with the transforms of
torchvision.transforms.v2, image by image: RandomHorizontalFlip, RandomAffine (bilinear), ColorJitter, ToDtype and
Normalize with the values of augment=standard on MNIST. It reads --images of them, and its time is scaled up to all.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from epoch_time import time_fit
from figures import describe, record
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config
from cnnbench.data import Split
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.factories import make_batches
from cnnbench.experiment.loading import load_dataset

Clock = Callable[[], float]


class Transformed(Dataset[tuple[Tensor, int]]):
    """A split whose images are transformed one by one."""

    def __init__(self, split: Split, transform: v2.Transform) -> None:
        self.split = split
        self.transform = transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.split.images[index]), int(self.split.labels[index])


def torchvisions_way(config: Config, images: int, workers: int) -> DataLoader:
    """The operations of a config's `augment` with torchvision."""
    knobs = config.augment
    affine = v2.RandomAffine(
        knobs.rotate,
        translate=(knobs.shift, knobs.shift),
        scale=(knobs.scale[0], knobs.scale[1]),
        interpolation=InterpolationMode.BILINEAR,
    )
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(knobs.flip),
            affine,
            v2.ColorJitter(brightness=knobs.brightness, contrast=knobs.contrast),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    train = load_dataset(config).train[torch.arange(images)]
    return DataLoader(Transformed(train, transform), batch_size=64, shuffle=True, num_workers=workers)


def epoch(config: Config, clock: Clock) -> float:
    """Seconds of one epoch of training."""
    parts = build_parts(config)
    parts.dataset = replace(parts.dataset, test=parts.dataset.test[torch.arange(10)])
    return time_fit(config, parts, clock)[0]


def images_alone(config: Config, clock: Clock) -> float:
    """Seconds of one epoch of augmented batches."""
    dataset = load_dataset(config)
    batches = make_batches(dataset.train, dataset=dataset, config=config, device=torch.device("cpu"), shuffle=True)
    started = clock()
    for _ in batches.iterate_epoch():
        pass
    return clock() - started


def torchvision_alone(config: Config, clock: Clock, images: int, workers: int) -> float:
    """Seconds of torchvision's way, scaled to all images."""
    batches = torchvisions_way(config, images, workers)
    whole = len(load_dataset(config).train)
    started = clock()
    for _ in batches:
        pass
    return (clock() - started) * whole / images


def measure(ways: dict[str, Callable[[], float]], rounds: int) -> list[dict[str, float]]:
    """Measure the seconds of each way in each round, and print medians."""
    for way in ways.values():
        way()  # warm up
    times = [{name: way() for name, way in ways.items()} for _ in range(rounds)]
    for name in ways:
        print(f"{name:24} {describe([time[name] for time in times], 's')}")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=6_000, help="for torchvision's way")
    parser.add_argument("--workers", type=int, default=0, help="processes of torchvision's DataLoader")
    parser.add_argument("--only-images", action="store_true", help="skip the epochs of training")
    parser.add_argument("--processor", action="store_true", help="processor time of one thread, without workers")
    arguments = parser.parse_args()
    clock: Clock = time.process_time if arguments.processor else time.perf_counter
    if arguments.processor:
        torch.set_num_threads(1)
        arguments.workers = 0
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    common = ["data=mnist", "data.val_fraction=0", "trainer.epochs=1", "trainer.device=cpu"]
    configs = {name: compose_config([*common, f"augment={name}"]) for name in ("none", "light", "standard", "strong")}
    alone: dict[str, Callable[[], float]] = {
        f"images, {name}": lambda config=config: images_alone(config, clock)  # type: ignore[misc]
        for name, config in configs.items()
    }
    alone["images, torchvision"] = lambda: torchvision_alone(
        configs["standard"], clock, arguments.images, arguments.workers
    )
    times = measure(alone, arguments.rounds)
    ratios = [t["images, torchvision"] / t["images, standard"] for t in times]
    record("images: torchvision ÷ standard", ratios)
    if arguments.only_images:
        return
    epochs: dict[str, Callable[[], float]] = {
        f"epoch, {name}": lambda config=config: epoch(config, clock)  # type: ignore[misc]
        for name, config in configs.items()
    }
    times = measure(epochs, arguments.rounds)
    for name in ("light", "standard", "strong"):
        record(f"epoch: {name} ÷ none", [t[f"epoch, {name}"] / t["epoch, none"] for t in times])


if __name__ == "__main__":
    main()
