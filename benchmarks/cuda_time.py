"""Time and memory of one training epoch on MNIST on a GPU: the course's way, a bare loop, cnnbench.

    CNNBENCH_DATA=DIR make cuda          # or: python benchmarks/cuda_time.py --rounds 3

The ways are those of `epoch_time.py`, and take turns in the same manner. Course's way: DataLoader and PIL, one process;
each batch is copied to the GPU, and the loss is read and shown at every step. Bare loop: normalised tensors on the GPU,
nothing measured or shown. cnnbench: all of `fit` for an epoch, with the copy of the data to the GPU, metrics and both
checkpoints; and its training pass alone, which is the cost of a further epoch. Each time ends when the GPU has
finished. Memory is the peak of PyTorch's tensors, data included.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from epoch_time import bare_loop, course_way, whole_fit
from figures import describe, record
from together_time import compare as compare_together

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import Config

COURSE, BARE, OURS, PASS = "course's way", "bare loop", "cnnbench", "cnnbench, training pass"
GRAPH = "cnnbench, trainer.graph=true"


def replay(config: Config) -> Config:
    """The config with `trainer.graph=true`."""
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"graph": True})})


WAYS: dict[str, Callable[[Config], tuple[float, ...]]] = {
    COURSE: lambda config: (course_way(config),),
    BARE: lambda config: (bare_loop(config),),
    GRAPH: lambda config: whole_fit(replay(config)),
    OURS: whole_fit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["mlp", "lenet5"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 512])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("No NVIDIA GPU that PyTorch can use: nothing was measured")
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, commit {find_commit()}, {arguments.rounds} rounds"
    )
    print("| | batch | seconds an epoch | MB on the GPU | ÷ bare loop |\n| --- | ---: | ---: | ---: | ---: |")
    for name in arguments.models:
        for batch in arguments.batches:
            compare(name, batch, arguments.rounds)
    alike = ["model=lenet5", "data=mnist", "data.val_fraction=0", "trainer.device=cuda"]
    together, _, alone = compare_together(alike, 32, arguments.rounds)
    ratios = [one / other for one, other in zip(together, alone, strict=True)]
    record("32 seeds of lenet5 together ÷ one seed, cuda", ratios)


def compare(name: str, batch: int, rounds: int) -> None:
    """Measure the ways in turn, and print a line for each, with its peak memory on the GPU."""
    config = compose_config(
        [
            *(f"model={name}", f"trainer.batch_size={batch}", "trainer.device=cuda"),
            *("data=mnist", "data.val_fraction=0", "trainer.epochs=1"),
        ]
    )
    for kind in (BARE, OURS):
        WAYS[kind](config)  # warm up
    measured, memory = [], dict.fromkeys([*WAYS, PASS], 0)
    for _ in range(rounds):
        times = {}
        for kind, way in WAYS.items():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            times[kind], *training = way(config)
            memory[kind] = max(memory[kind], torch.cuda.max_memory_allocated())
        times[PASS], memory[PASS] = training[0], memory[OURS]  # the last way is ours
        measured.append(times)
    for kind, most in memory.items():
        seconds, ratios = ([times[kind] / (times[BARE] if by else 1) for times in measured] for by in (False, True))
        ratio = "" if kind == BARE else describe(ratios)
        print(f"| {name}, {kind} | {batch} | {describe(seconds)} | {most / 1e6:.0f} | {ratio} |", flush=True)
    for kind in (OURS, PASS, GRAPH):
        record(f"{name}, batch {batch}: {kind} ÷ bare loop, cuda", [times[kind] / times[BARE] for times in measured])


def find_commit() -> str:
    """The commit of the checkout; a question mark outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"


if __name__ == "__main__":
    main()
