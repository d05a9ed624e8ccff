"""What checkpoints cost: LeNet-5 on MNIST with one an epoch and with none, and resnet_mini with one a minute.

    CNNBENCH_DATA=DIR python benchmarks/checkpoint_cost.py [--rounds 5] [--epochs 2] [--limit N]

Both ways take turns within each round, and the medians of the rounds' own ratios are printed; without a validation
split each epoch is the best, so each writes the last, the best and metrics.csv. One a minute is a save's median time
over sixty seconds; beside it, to see that nothing else is slowed, runs that save each second and never take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from figures import record

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.training.passes import train_alone
from cnnbench.training.state import State


@contextmanager
def nothing_saved() -> Iterator[None]:
    """Within it, training goes its way and leaves no checkpoint."""
    with (
        mock.patch.object(State, "save"),
        mock.patch.object(State, "write_epoch"),
        mock.patch.object(State, "load_best", lambda state: state.history.epochs),
    ):
        yield


@contextmanager
def saves_timed(seconds: list[float]) -> Iterator[None]:
    """Within it, the seconds of each save are written down."""
    save = State.save

    def timed(state: State) -> None:
        began = time.perf_counter()
        save(state)
        seconds.append(time.perf_counter() - began)

    with mock.patch.object(State, "save", timed):
        yield


def train(config: Config) -> float:
    """Seconds of training, without the look at the test set."""
    parts = build_parts(config)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(create_folder(Path(folder) / "run"))
        run.start({}, [])
        began = time.perf_counter()
        train_alone(prepare_training(config, run, parts, test=False)[1]())
        return time.perf_counter() - began


def in_turns(config: Config, rounds: int) -> list[float]:
    """Each round's time with checkpoints over its time without; they change places from round to round."""
    ratios = []
    for number in range(rounds):
        times: dict[bool, float] = {}
        for saved in (True, False) if number % 2 else (False, True):
            if saved:
                times[saved] = train(config)
            else:
                with nothing_saved():
                    times[saved] = train(config)
        ratios.append(times[True] / times[False])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="training images; all unless told")
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    limit = "null" if asked.limit is None else asked.limit
    common = ["data=mnist", "data.val_fraction=0", f"data.train_limit={limit}", "trainer.device=cpu"]
    lenet = compose_config(["model=lenet5", *common, f"trainer.epochs={asked.epochs}"])
    train(lenet)  # warm up
    record("lenet5: a checkpoint an epoch ÷ none (wanted: ≤ 1.03)", in_turns(lenet, asked.rounds))

    seconds: list[float] = []
    second = 1 / 60
    resnet = compose_config(["model=resnet_mini", *common, "trainer.epochs=1", f"trainer.checkpoint_minutes={second}"])
    with saves_timed(seconds):
        ratios = in_turns(resnet, asked.rounds)
    save = statistics.median(seconds)
    print(f"resnet_mini save: {save * 1000:.1f} ms, median of {len(seconds)} ({max(seconds) * 1000:.1f} at most)")
    print(f"resnet_mini a checkpoint a minute: {1 + save / 60:.5f} (wanted: ≤ 1.01)")
    record("resnet_mini: a checkpoint a second ÷ none", ratios)


if __name__ == "__main__":
    main()
