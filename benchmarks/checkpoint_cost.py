"""The cost of checkpoints: LeNet-5 on MNIST with one per epoch and without, and resnet_mini with one per minute.

    CNNBENCH_DATA=DIR python benchmarks/checkpoint_cost.py [--rounds 5] [--epochs 2] [--limit N]

Runs with and without checkpoints take turns within each round; the script prints medians of the ratios within each
round. Without a validation split each epoch is the best, so each writes the last, the best and metrics.csv. The cost of
one per minute is computed from the median time of a save. In addition, runs with a checkpoint per second take turns
with runs without, to show that nothing else is slowed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from epoch_time import time_fit
from figures import record

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config
from cnnbench.experiment.build import build_parts
from cnnbench.training.state import State


@contextmanager
def skip_saves() -> Iterator[None]:
    """A context in which training saves no checkpoint."""
    with (
        mock.patch.object(State, "save"),
        mock.patch.object(State, "write_epoch"),
        mock.patch.object(State, "load_best", lambda state: state.history.epochs),
    ):
        yield


@contextmanager
def time_saves(seconds: list[float]) -> Iterator[None]:
    """A context in which the seconds of each save are appended to a list."""
    save = State.save

    def timed(state: State) -> None:
        began = time.perf_counter()
        save(state)
        seconds.append(time.perf_counter() - began)

    with mock.patch.object(State, "save", timed):
        yield


def train(config: Config) -> float:
    """Seconds of training, without the test."""
    return time_fit(config, build_parts(config), time.perf_counter, test=False)[0]


def compare_in_turns(config: Config, rounds: int) -> list[float]:
    """The ratio of the times with and without checkpoints in each round; their order alternates."""
    ratios = []
    for number in range(rounds):
        times: dict[bool, float] = {}
        for saved in (True, False) if number % 2 else (False, True):
            if saved:
                times[saved] = train(config)
            else:
                with skip_saves():
                    times[saved] = train(config)
        ratios.append(times[True] / times[False])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="number of training images; by default all")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    limit = "null" if options.limit is None else options.limit
    common = ["data=mnist", "data.val_fraction=0", f"data.train_limit={limit}", "trainer.device=cpu"]
    lenet = compose_config(["model=lenet5", *common, f"trainer.epochs={options.epochs}"])
    train(lenet)  # warm up
    record("lenet5: a checkpoint an epoch ÷ none (wanted: ≤ 1.03)", compare_in_turns(lenet, options.rounds))

    seconds: list[float] = []
    second = 1 / 60
    resnet = compose_config(["model=resnet_mini", *common, "trainer.epochs=1", f"trainer.checkpoint_minutes={second}"])
    with time_saves(seconds):
        ratios = compare_in_turns(resnet, options.rounds)
    save = statistics.median(seconds)
    print(f"resnet_mini save: {save * 1000:.1f} ms, median of {len(seconds)} ({max(seconds) * 1000:.1f} at most)")
    print(f"resnet_mini a checkpoint a minute: {1 + save / 60:.5f} (wanted: ≤ 1.01)")
    record("resnet_mini: a checkpoint a second ÷ none", ratios)


if __name__ == "__main__":
    main()
