"""How `experiment=lenet5_fast` was chosen, and how long it takes beside the course's way.

    CNNBENCH_DATA=DIR make reproduce                     # side by side: the course's five epochs, our one
    python benchmarks/fast_recipe.py search --minutes 15 # the search, on a validation split

The search draws settings at random from the grid below and scores each on 10,000 training images held out for
validation (`data.val_fraction=1/6`), the mean of three seeds. The test images are not looked at.
Side by side: both start at reading the files and end with the accuracy on the 10,000 test images; they take turns.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from course_way import accuracy, loaders, train_epoch

from cnnbench.cli.compose import compose_config
from cnnbench.data.dataset import _load_source
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.run import prepare_training
from cnnbench.runs.folder import RunFolder, create_folder

GRID: dict[str, list[object]] = {
    "optimizer.lr": [0.005, 0.0065, 0.008, 0.01],
    "optimizer.betas": ["[0.8,0.98]", "[0.85,0.98]", "[0.9,0.98]", "[0.85,0.95]", "[0.85,0.99]"],
    "trainer.batch_size": [32, 48, 64],
    "scheduler.peak_at": [0.1, 0.2],
    "optimizer.weight_decay": [0.05, 0.1, 0.2],
    "trainer.label_smoothing": [0.04, 0.07, 0.1],
}


def train(overrides: list[str]) -> tuple[float, float]:
    """Train the recipe once; returns its last accuracy (validation if there is a split, else test) and seconds."""
    config = compose_config(["experiment=lenet5_fast", "trainer.device=cpu", *overrides])
    _load_source.cache_clear()  # reading the files is part of the time
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(create_folder(Path(folder) / "run"))
        run.start({}, [])
        started = time.perf_counter()
        outcome = prepare_training(config, run, build_parts(config))[1]()
        seconds = time.perf_counter() - started
    assert outcome.test is not None
    return outcome.rows[-1]["val/accuracy"] or outcome.test.compute_scores()["accuracy"], seconds


def course(root: str, seed: int) -> tuple[float, float]:
    """The course's way, five epochs; returns its test accuracy and seconds."""
    model = build_parts(compose_config(["experiment=lenet5_fast", "trainer.device=cpu", f"seed={seed}"])).model
    started = time.perf_counter()
    train_batches, test_batches = loaders(root)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        train_epoch(model, optimizer, train_batches)
    return accuracy(model, test_batches), time.perf_counter() - started


def side_by_side(rounds: int) -> None:
    """Print times and accuracies of both ways, in turns."""
    root = os.environ.get("CNNBENCH_DATA", "data")
    train(["data.train_limit=2000"])  # warm up
    ratios = []
    for seed in range(rounds):
        theirs, slow = course(root, seed)
        ours, fast = train([f"seed={seed}"])
        ratios.append(slow / fast)
        print(
            f"seed {seed}: course's way {slow:.1f} s to {theirs:.2%} · lenet5_fast {fast:.1f} s to {ours:.2%}",
            flush=True,
        )
    print(f"course's way ÷ lenet5_fast: {statistics.median(ratios):.1f}  ({min(ratios):.1f}…{max(ratios):.1f})")


def search(minutes: float) -> None:
    """Print settings drawn at random with their validation accuracy after one and after two epochs."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        drawn = [f"{key}={random.choice(values)}" for key, values in GRID.items()]
        means = []
        for epochs in (1, 2):
            more = ["data.val_fraction=0.16666667", f"trainer.epochs={epochs}"]
            means.append(statistics.fmean(train([*drawn, *more, f"seed={seed}"])[0] for seed in range(3)))
        print(f"{means[0]:.4%} {means[1]:.4%} {' '.join(drawn)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["side_by_side", "search"], default="side_by_side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15)
    arguments = parser.parse_args()
    if arguments.what == "search":
        search(arguments.minutes)
    else:
        side_by_side(arguments.rounds)


if __name__ == "__main__":
    main()
