"""Time of an epoch on the CPU with one thread, with two threads, and with two processes of one thread.

    CNNBENCH_DATA=DIR python benchmarks/devices_time.py --rounds 5

12,800 images of MNIST. In each round, each way trains two epochs in a command of its own, and the second one counts.
The script prints a Markdown table of seconds and of the ratios to one thread within each round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import describe, record

from cnnbench.runs.folder import RunFolder

WAYS = {  # devices and threads
    "1 process of 1 thread": (1, 1),
    "1 process of 2 threads": (1, 2),
    "2 processes of 1 thread": (2, 1),
}
DATA = ["data=mnist", "data.download=false", "data.train_limit=12800", "data.val_fraction=0", "trainer.epochs=2"]


def time_epoch(model: str, devices: int, threads: int) -> float:
    """The seconds of the second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "cnnbench", "train", f"model={model}", *DATA, f"hydra.run.dir={run}"]
        command += [f"trainer.devices={devices}", f"trainer.threads={threads}", "trainer.device=cpu"]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return float(RunFolder(run).read_metrics()[-1]["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["lenet5", "resnet_mini"])
    options = parser.parse_args()
    rows = []
    for model in options.models:
        rounds = [{way: time_epoch(model, *setting) for way, setting in WAYS.items()} for _ in range(options.rounds)]
        one, *others = WAYS
        for way in WAYS:
            seconds = [times[way] for times in rounds]
            ratios = [times[way] / times[one] for times in rounds]
            rows.append(f"| {model} | {way} | {statistics.median(seconds):.2f} | {describe(ratios)} |")
            if way in others:
                record(f"{model}: an epoch by {way} ÷ by {one}", ratios)
    print("\n| model | | seconds | ÷ 1 process of 1 thread |\n| --- | --- | ---: | ---: |", *rows, sep="\n")


if __name__ == "__main__":
    main()
