"""The search for `experiment=lenet5_fast`, and its time compared with the course's way and its former recipe.

    CNNBENCH_DATA=DIR make reproduce                         # the course's five epochs and our recipe
    python benchmarks/fast_recipe.py former --rounds 12      # the former recipe (AdamW, one epoch) and today's
    python benchmarks/fast_recipe.py search --minutes 15     # the search, on a validation split

The search draws settings at random from the grid below. The score of each is its mean accuracy, over three seeds, on
10,000 training images held out for validation (`data.val_fraction=1/6`); the test images are not used. The comparisons
take turns, and measure from reading the files to the accuracy on the 10,000 test images.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from course_way import accuracy, loaders, train_epoch
from figures import record

from cnnbench.cli.compose import compose_config
from cnnbench.data.sources import _load_source
from cnnbench.experiment.build import build_parts, choose_threads, prepare_training
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.training.epoch import train_alone

GRID: dict[str, list[object]] = {
    "optimizer.lr": [0.016, 0.02, 0.024, 0.03],
    "optimizer.momentum": [0.8, 0.85, 0.9],
    "optimizer.weight_decay": [0.0, 0.1, 0.2],
    "trainer.batch_size": [64, 96, 128],
    "trainer.label_smoothing": [0.07, 0.1, 0.15],
    "scheduler.peak_at": [0.06, 0.1, 0.2],
    "scheduler.initial": [0.04, 0.3],
}
TODAY = ["experiment=lenet5_fast"]
FORMER = [
    *("model=lenet5", "data=mnist", "data.val_fraction=0", "data.normalize=half", "trainer.epochs=1"),
    *("optimizer=adamw", "optimizer.lr=0.008", "optimizer.weight_decay=0.1", "optimizer.betas=[0.9,0.99]"),
    *("scheduler=one_cycle", "scheduler.peak_at=0.1", "scheduler.initial=0.04", "scheduler.final=0"),
    *("scheduler.anneal=linear", "trainer.label_smoothing=0.07", "trainer.batch_size=64"),
]


@dataclass
class Measured:
    """One training.

    Attributes:
        accuracy: of the last epoch, on the validation split or, without one, on the test images.
        seconds: from reading the files to this accuracy.
        processor: seconds of processor time within these.
    """

    accuracy: float
    seconds: float
    processor: float


def train(overrides: list[str]) -> Measured:
    """Train once, with the overrides."""
    config = compose_config(["trainer.device=cpu", *overrides])
    _load_source.cache_clear()  # reading the files is part of the time
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(create_folder(Path(folder) / "run"))
        run.start({}, [])
        started, busy = time.perf_counter(), time.process_time()
        parts = build_parts(config)
        torch.set_num_threads(choose_threads(config, parts.complexity))
        outcome = train_alone(prepare_training(config, run, parts)[1]())
        seconds, processor = time.perf_counter() - started, time.process_time() - busy
    assert outcome.test is not None
    reached = outcome.rows[-1]["val/accuracy"] or outcome.test.compute_scores()["accuracy"]
    return Measured(reached, seconds, processor)


def train_course_way(root: str, seed: int) -> tuple[float, float]:
    """Train five epochs in the course's way; returns the test accuracy and the seconds."""
    model = build_parts(compose_config(["experiment=lenet5_fast", "trainer.device=cpu", f"seed={seed}"])).model
    started = time.perf_counter()
    train_batches, test_batches = loaders(root)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        train_epoch(model, optimizer, train_batches)
    return accuracy(model, test_batches), time.perf_counter() - started


def compare_with_course(rounds: int) -> None:
    """Print times and accuracies of both ways, in turns."""
    root = os.environ.get("CNNBENCH_DATA", "data")
    train([*TODAY, "data.train_limit=2000"])  # warm up
    ratios = []
    for seed in range(rounds):
        theirs, slow = train_course_way(root, seed)
        ours = train([*TODAY, f"seed={seed}"])
        ratios.append(slow / ours.seconds)
        print(
            f"seed {seed}: course's way {slow:.1f} s to {theirs:.2%} · "
            f"lenet5_fast {ours.seconds:.1f} s to {ours.accuracy:.2%}",
            flush=True,
        )
    print(f"course's way ÷ lenet5_fast: {statistics.median(ratios):.1f}  ({min(ratios):.1f}…{max(ratios):.1f})")


def compare_with_former(rounds: int) -> None:
    """Print times and accuracies of the former recipe and of today's, in turns."""
    train([*TODAY, "data.train_limit=2000"])  # warm up
    pairs = []
    for seed in range(rounds):
        pairs.append((train([*FORMER, f"seed={seed}"]), train([*TODAY, f"seed={seed}"])))
        before, now = pairs[-1]
        print(
            f"seed {seed}: former {before.accuracy:.2%}, {before.seconds:.2f} s, processor {before.processor:.2f} s · "
            f"today's {now.accuracy:.2%}, {now.seconds:.2f} s, processor {now.processor:.2f} s",
            flush=True,
        )
    for name, runs in (("former", [pair[0] for pair in pairs]), ("today's", [pair[1] for pair in pairs])):
        reached = [100 * run.accuracy for run in runs]
        print(f"{name}: {statistics.fmean(reached):.3f} ± {statistics.stdev(reached):.3f} %")
    for what in ("seconds", "processor"):
        ratios = [getattr(now, what) / getattr(before, what) for before, now in pairs]
        record(f"lenet5_fast: today's ÷ former recipe, {what}", ratios)


def search(minutes: float) -> None:
    """Print settings drawn at random with their validation accuracy."""
    end = time.monotonic() + 60 * minutes
    # The limit applies before the split: 40,800 images leave 34,000 to train on.
    validate = ["data.val_fraction=0.16666667", "data.train_limit=40800"]
    while time.monotonic() < end:
        drawn = [f"{key}={random.choice(values)}" for key, values in GRID.items()]
        mean = statistics.fmean(train([*TODAY, *drawn, *validate, f"seed={seed}"]).accuracy for seed in range(3))
        print(f"{mean:.4%} {' '.join(drawn)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["side_by_side", "former", "search"], default="side_by_side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15)
    arguments = parser.parse_args()
    if arguments.what == "search":
        search(arguments.minutes)
    elif arguments.what == "former":
        compare_with_former(arguments.rounds)
    else:
        compare_with_course(arguments.rounds)


if __name__ == "__main__":
    main()
