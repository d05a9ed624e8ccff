"""Time of a training pass of several seeds: together (`sweep.together`), and one seed after another.

    OMP_NUM_THREADS=1 CNNBENCH_DATA=DIR python benchmarks/together_time.py --rounds 3 --seeds 2 3 8 32

Both ways train the same seeds on the same images, each from its own initial weights, and take turns. On the CPU,
seconds are processor time of one thread, which other programs change little; on a GPU, they are wall time until the GPU
has finished. Data, networks and optimizers are prepared in advance, and there is no validation, test or checkpoint.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from figures import describe, record

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.build import build_parts, prepare_training
from cnnbench.runs.folder import RunFolder
from cnnbench.training.epoch import TrainingPass
from cnnbench.training.together import train_together


def prepare(overrides: Sequence[str], seeds: int, folder: Path) -> list[TrainingPass]:
    """The first epoch of each seed; the data are loaded once."""
    passes, dataset = [], None
    for seed in range(seeds):
        config = compose_config([*overrides, f"seed={seed}"])
        parts = build_parts(config, test=False)
        parts.dataset = dataset = dataset or parts.dataset
        run = RunFolder.create(folder / str(seed))
        run.checkpoints.mkdir()
        with closing(prepare_training(config, run, parts, test=False)[1]()) as fit:
            passes.append(next(fit))
    return passes


def time_pass(overrides: Sequence[str], seeds: int, *, together: bool) -> float:
    """Seconds of a training pass of all seeds."""
    with tempfile.TemporaryDirectory() as folder:
        passes = prepare(overrides, seeds, Path(folder))
        started = read_clock(passes[0])
        if together:
            list(train_together(passes))
        else:
            for each in passes:
                each.run()
        return read_clock(passes[0]) - started


def read_clock(one: TrainingPass) -> float:
    """Seconds of processor time, or of wall time when the GPU has finished."""
    if one.state.device.type == "cuda":
        torch.cuda.synchronize(one.state.device)
        return time.perf_counter()
    return time.process_time()


def compare(overrides: Sequence[str], seeds: int, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of the seeds together, one after another, and of the first seed alone, for each round."""
    for stacked in (True, False):
        time_pass([*overrides, "data.train_limit=640"], seeds, together=stacked)  # warm up
    measured = [
        (
            time_pass(overrides, seeds, together=True),
            time_pass(overrides, seeds, together=False),
            time_pass(overrides, 1, together=False),
        )
        for _ in range(rounds)
    ]
    together, apart, alone = (list(column) for column in zip(*measured, strict=True))
    return together, apart, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 3, 8, 32])
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the config, such as model.width=0.25")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    name = arguments.model
    overrides = [f"model={name}", "data=mnist", "data.val_fraction=0", f"trainer.device={arguments.device}"]
    overrides += arguments.overrides
    overrides += [f"trainer.batch_size={arguments.batch}", f"data.train_limit={arguments.images}"]
    lines = ["| | together, s | one after another, s | together ÷ apart |", "| --- | ---: | ---: | ---: |"]
    for seeds in arguments.seeds:
        together, apart, alone = compare(overrides, seeds, arguments.rounds)
        ratios = [one / other for one, other in zip(together, apart, strict=True)]
        record(f"{seeds} seeds of {name} together ÷ one after another, {arguments.device}", ratios)
        record(
            f"{seeds} seeds of {name} together ÷ one seed, {arguments.device}",
            [one / other for one, other in zip(together, alone, strict=True)],
        )
        lines.append(f"| {name}, {seeds} seeds | {describe(together)} | {describe(apart)} | {describe(ratios)} |")
    print(f"\ntorch {torch.__version__}, batch {arguments.batch}, {arguments.images} images\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
