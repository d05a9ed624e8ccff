"""The effect of `evaluate --calibrate` on the probabilities of test images, over several seeds.

    CNNBENCH_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/calibration.py --seeds 10

For each row, a network is trained with each seed, calibrated on its validation images, and evaluated on the test
images. A row shows means and standard deviations over the seeds, and the number of seeds with a smaller ECE.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.run import run_job
from cnnbench.metrics import Metric, find_metric
from cnnbench.report.formatting import format_spread
from cnnbench.report.statistics import estimate

SHOWN = ("nll", "brier", "ece")
ROWS = {
    "digits, LeNet-5": ["model=lenet5"],
    "MNIST, LeNet-5, 2 epochs": ["model=lenet5", "data=mnist", "trainer.epochs=2"],
    "MNIST, 1,000 images, perceptron, 30 epochs": [
        *("model=mlp", "data=mnist", "data.train_limit=1000", "trainer.epochs=30"),
    ],
}


def measure(overrides: list[str], seed: int) -> dict[str, float]:
    """The figures of one network before and after calibration."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        run.mkdir()
        config = compose_config([*overrides, f"seed={seed}", "trainer.threads=1"])
        run_job(config, run, overrides, draw=lambda pictures, *, wait=True: None)
        return evaluate_run(run, calibrate=True)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    shown = (f"{find_metric(name).heading} before → after" for name in SHOWN)
    print(f"| networks | n | temperature | {' | '.join(shown)} | ECE smaller |")
    print("| --- " * (len(SHOWN) + 4) + "|")
    for name, overrides in ROWS.items():
        found = []
        for seed in range(seeds):
            try:
                found.append(measure(overrides, seed))
            except ValueError as error:  # no temperature fits
                print(f"{name}, seed {seed}: {error}")
        values = {key: np.array([one[key] for one in found]) for key in found[0] if isinstance(found[0][key], float)}
        cells = [format_spread(estimate(values["temperature"]), Metric("temperature", "temperature", digits=2))]
        for key in SHOWN:
            parts = (estimate(values[name]) for name in (key, f"calibrated/{key}"))
            cells.append(" → ".join(format_spread(part, find_metric(key)) for part in parts))
        smaller = int((values["calibrated/ece"] < values["ece"]).sum())
        print(f"| {name} | {len(found)} | {' | '.join(cells)} | {smaller} of {len(found)} |", flush=True)


if __name__ == "__main__":
    main()
