"""Time of one training epoch on MNIST at batch 64: the course's way, a bare tensor loop, cnnbench.

    CNNBENCH_DATA=DIR python benchmarks/epoch_time.py --rounds 5

The three take turns within each round, so that a slow minute of a shared machine touches all of them; medians and
the medians of the rounds' own ratios are printed. Bare loop: the images are normalised once, beforehand, and nothing
is measured or shown; model, batch and (fused) Adam are those of cnnbench. cnnbench: all of `fit` for one epoch with
metrics, log, progress, metrics.csv and both checkpoints; only the look at the test set is cut to ten images.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from course_way import loaders, train_epoch
from figures import record

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config
from cnnbench.data import normalize
from cnnbench.experiment.build import build_parts, choose_threads, prepare_training
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.training.passes import train_alone


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
    """Seconds of an epoch with all that cnnbench does around it, and of the training pass alone."""
    parts = build_parts(config)
    few = torch.arange(10)
    parts.dataset = replace(parts.dataset, test=parts.dataset.test[few])
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(create_folder(Path(folder) / "run"))
        run.start({}, [])
        started = now(parts.device)
        outcome = train_alone(prepare_training(config, run, parts)[1]())
        return now(parts.device) - started, outcome.train_seconds


def now(device: torch.device) -> float:
    """The time once the device has done what it was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["mlp", "lenet5"])
    parser.add_argument("--threads", type=int, help="of every way; without it, as many as cnnbench takes")
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
            seconds = [times[way.__name__] for times in rounds]
            spread = f"({min(seconds):.3f}…{max(seconds):.3f})"
            print(f"{name:8} {way.__name__:12} {statistics.median(seconds):7.3f} s  {spread}")
        record(f"{name}: cnnbench ÷ bare loop", [times["cnnbench"] / times["bare_loop"] for times in rounds])
        if not arguments.without_course:
            record(f"{name}: course's way ÷ cnnbench", [times["course_way"] / times["cnnbench"] for times in rounds])


if __name__ == "__main__":
    main()
