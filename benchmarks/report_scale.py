"""Time and memory of `cnnbench report` over many runs.

    CNNBENCH_DATA=DIR python benchmarks/report_scale.py --runs 200 2000

LeNet-5 is trained on MNIST for one epoch. Its run folder is copied with other widths and seeds (six seeds per group,
the rest in one more group); each copy has different wrong predictions and the scores that follow from them. The report
runs in a process of its own: `wall` is its duration, `processor` the processor time of it and its children, `peak` its
peak memory (VmHWM). `--python` names interpreters, such as those of two worktrees, which report the same runs in turn.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import read_processor_time

from cnnbench.cli.compose import compose_config
from cnnbench.experiment.run import run_job
from cnnbench.metrics import compute_scores, score_classes
from cnnbench.runs.contents import read_confusion, read_predictions, write_evaluation
from cnnbench.runs.folder import FINISHED, RunFolder, create_folder
from cnnbench.storage.plain_data import write_yaml

SEEDS = 6
COPIED = ["config.yaml", "overrides.yaml", "summary.json", "predictions.npz", "status.json"]
COPIED += ["confusion_matrix.csv", "per_class.csv"]


def make(template: Path, sweep: Path, count: int) -> None:
    """Create a sweep of `count` runs, six seeds of each width."""
    config, summary = RunFolder(template).read_config(), RunFolder(template).read_summary()
    arrays, (classes, _) = read_predictions(template), read_confusion(template)
    sweep.mkdir()
    write_yaml(sweep / "sweep.yaml", {"axes": ["model.width", "seed"]})
    for number in range(count):
        random = np.random.default_rng(number)
        width, seed = 1 + (number // SEEDS) / 8, number % SEEDS
        folder = sweep / str(number)
        folder.mkdir()
        run = RunFolder(create_folder(folder))
        write_yaml(folder / "config.yaml", {**config, "seed": seed, "model": {**config["model"], "width": width}})
        write_yaml(folder / "overrides.yaml", [f"model.width={width}", f"seed={seed}"])
        wrong = random.random(len(arrays["labels"])) < 0.01 + 0.01 * random.random()
        predictions = np.where(wrong, (arrays["labels"] + 1) % 10, arrays["labels"])
        confusion = np.bincount(arrays["labels"] * 10 + predictions, minlength=100).reshape(10, 10)
        write_evaluation(
            folder,
            class_names=classes,
            confusion=confusion,
            per_class=score_classes(confusion, classes),
            labels=arrays["labels"],
            predictions=predictions,
            probabilities=_swap_likeliest(arrays["probabilities"], predictions, arrays["predictions"]),
        )
        summary = {key: value for key, value in summary.items() if key != "test/loss"}
        run.write_summary(
            summary | {"seed": seed, **{f"test/{k}": value for k, value in compute_scores(confusion).items()}}
        )
        run.set_status(FINISHED)
        for path in template.rglob("*"):
            copy = folder / path.relative_to(template)
            if path.is_dir():
                copy.mkdir(exist_ok=True)
            elif path.name not in COPIED and path.suffix != ".safetensors":
                os.link(path, copy)


def _swap_likeliest(probabilities: np.ndarray, predictions: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Swap the probabilities of the new and the former predictions."""
    made, images = probabilities.copy(), np.arange(len(predictions))
    made[images, predictions], made[images, before] = probabilities[images, before], probabilities[images, predictions]
    return made


def measure(sweep: Path, python: str) -> tuple[float, float, float, int]:
    """Seconds, processor seconds, peak MiB, and the bytes of the report's largest file."""
    started, before = time.perf_counter(), read_processor_time(resource.RUSAGE_CHILDREN)
    command = [python, "-m", "cnnbench", "report", str(sweep), "--target", "0.98", "--latex"]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    assert process.returncode == 0
    computed = read_processor_time(resource.RUSAGE_CHILDREN) - before
    return seconds, computed, peak / 1024, max(path.stat().st_size for path in sweep.glob("*.*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        template = create_folder(Path(place) / "template")
        quick = ["data=mnist", "data.download=false", "trainer.epochs=1", "trainer.batch_size=512", "name=scale"]
        run_job(compose_config([*quick, f"data.root={os.environ['CNNBENCH_DATA']}"]), template, quick)
        for count in options.runs:
            sweep = Path(place) / str(count)
            make(template, sweep, count)
            for python in options.python:
                seconds, computed, peak, largest = measure(sweep, python)
                print(
                    f"{count:>6,} runs: wall {seconds:.1f} s, processor {computed:.1f} s, peak {peak:.0f} MiB, "
                    f"largest file {largest:,} bytes ({python})"
                )


if __name__ == "__main__":
    main()
