"""Compare the learning rate of `cnnbench find-lr` with the default.

    CNNBENCH_DATA=DIR python benchmarks/find_lr_check.py --seeds 2 --epochs 3 --limit 1500

For each network and dataset, the script prints the suggestion with its range, its processor time, and the mean test
accuracy over the seeds after a few epochs, with the default learning rate and with the suggestion.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.preview import run_range_test
from cnnbench.experiment.run import run_job
from cnnbench.training.lr_range import judge_losses

CASES = [
    *((model, data, "adam") for data in ("digits", "mnist") for model in ("mlp", "lenet5", "vgg_mini")),
    *(("lenet5", "digits", optimizer) for optimizer in ("sgd", "adamw", "muon")),
]


def train(overrides: list[str], seeds: int) -> float:
    """The mean test accuracy."""
    accuracies = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            config = compose_config([*overrides, f"seed={seed}"])
            accuracies.append(run_job(config, Path(folder), [], draw=lambda *_, **__: None)["test/accuracy"])
    return statistics.fmean(accuracies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1500)
    given = parser.parse_args()
    for model, data, optimizer in CASES:
        overrides = [f"model={model}", f"data={data}", f"optimizer={optimizer}", f"trainer.epochs={given.epochs}"]
        overrides += [f"data.train_limit={given.limit}", "trainer.threads=1"]
        config = compose_config(overrides)
        began, rates = time.process_time(), np.geomspace(1e-6, 10, 200)
        found = judge_losses(rates, run_range_test(config, rates)).suggestion
        seconds = time.process_time() - began
        assert found is not None, "the loss falls"
        chosen = f"suggestion {found.rate:.2g} [{found.low:.2g}, {found.high:.2g}], {seconds:.1f} s"
        default = train(overrides, given.seeds)
        suggested = train([*overrides, f"optimizer.lr={found.rate}"], given.seeds)
        accuracies = f"default {config.optimizer.lr:g}: {100 * default:.2f} %, suggestion: {100 * suggested:.2f} %"
        print(f"{model:<9} {data:<7} {optimizer:<6} {chosen}; {accuracies}", flush=True)


if __name__ == "__main__":
    main()
