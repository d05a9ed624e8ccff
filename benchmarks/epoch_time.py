"""Time of one training epoch on MNIST at batch 64: the course's way, a bare tensor loop, cnnbench.

    CNNBENCH_DATA=DIR python benchmarks/epoch_time.py --rounds 5

The three take turns within each round, so that a slow minute of a shared machine affects all of them. The script prints
medians of the times and of the ratios within each round. Bare loop: images are normalised in advance, and nothing is
measured or shown; model, batch and (fused) Adam are those of cnnbench. cnnbench: all of `fit` for one epoch with
metrics, log, progress, metrics.csv and both checkpoints, but with only ten test images.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from course_way import loaders, train_epoch
from figures import describe, record

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config
from cnnbench.data import normalize
from cnnbench.experiment.build import Parts, build_parts, choose_threads, prepare_training
from cnnbench.runs.folder import RunFolder
from cnnbench.training.epoch import train_alone


def course_way(config: Config) -> float:
    parts = build_parts(config)
    optimizer = torch.optim.Adam(parts.model.parameters(), lr=1e-3)
    batches, _ = loaders(config.data.root, config.trainer.batch_size)
    started = now(parts.device)
    train_epoch(parts.model, optimizer, batches, parts.device)
    return now(parts.device) - started


def bare_loop(config: Config) -> float:
    parts = build_parts(config)
    model, train, device = parts.model, parts.dataset.train, parts.device
    images = normalize(train.images, torch.tensor([0.5]), torch.tensor([0.5])).to(device)
    labels = train.labels.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    started = now(device)
    for indices in torch.randperm(len(labels)).to(device).split(config.trainer.batch_size):
        loss = F.cross_entropy(model(images.index_select(0, indices)), labels.index_select(0, indices))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return now(device) - started


def cnnbench(config: Config) -> float:
    return whole_fit(config)[0]


def whole_fit(config: Config) -> tuple[float, float]:
    """Seconds of `fit` for an epoch, with ten test images, and of its training pass alone."""
    parts = build_parts(config)
    parts.dataset = replace(parts.dataset, test=parts.dataset.test[torch.arange(10)])
    return time_fit(config, parts, lambda: now(parts.device))


def time_fit(config: Config, parts: Parts, clock: Callable[[], float], *, test: bool = True) -> tuple[float, float]:
    """Seconds of `fit` by a clock, in a temporary run folder, and of its training passes alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder, "run"))
        run.start({}, [])
        started = clock()
        outcome = train_alone(prepare_training(config, run, parts, test=test)[1]())
        return clock() - started, outcome.train_seconds


def now(device: torch.device) -> float:
    """The time when the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["mlp", "lenet5"])
    parser.add_argument("--threads", type=int, help="for every way; by default as many as cnnbench takes")
    parser.add_argument("--without-course", action="store_true", help="only the bare loop and cnnbench")
    arguments = parser.parse_args()
    ways = [bare_loop, cnnbench] if arguments.without_course else [course_way, bare_loop, cnnbench]
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    for name in arguments.models:
        config = compose_config(
            [f"model={name}", "data=mnist", "data.val_fraction=0", "trainer.epochs=1", "trainer.device=cpu"]
        )
        torch.set_num_threads(arguments.threads or choose_threads(config, build_parts(config).complexity))
        print(f"{name:8} {torch.get_num_threads()} threads")
        for way in ways[-2:]:
            way(config)  # warm up
        rounds = [{way.__name__: way(config) for way in ways} for _ in range(arguments.rounds)]
        for way in ways:
            print(f"{name:8} {way.__name__:12} {describe([times[way.__name__] for times in rounds], 's')}")
        record(f"{name}: cnnbench ÷ bare loop", [times["cnnbench"] / times["bare_loop"] for times in rounds])
        if not arguments.without_course:
            record(f"{name}: course's way ÷ cnnbench", [times["course_way"] / times["cnnbench"] for times in rounds])


if __name__ == "__main__":
    main()
