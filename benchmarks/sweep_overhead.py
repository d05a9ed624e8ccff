"""The overhead of a sweep: 24 LeNet-5 digits jobs, one after the other.

    python benchmarks/sweep_overhead.py --rounds 3

The overhead of a job is the time from the start of the first job to the end of the last, minus the time in training
passes, divided by the number of jobs. The same for the whole command, from Python's start to its report, is recorded
too. Both need an idle machine, because other programs slow the overhead as well.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import record

from cnnbench.runs.folder import RunFolder


def run_sweep(folder: Path, jobs: int, overrides: list[str]) -> tuple[float, list[RunFolder]]:
    """Run the sweep; returns the seconds of the whole command and the runs."""
    command = [sys.executable, "-m", "cnnbench", "train", "model=lenet5", f"sweep.seeds={jobs}"]
    started = time.perf_counter()
    subprocess.run([*command, f"hydra.sweep.dir={folder}", *overrides], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    runs = [RunFolder(path.parent) for path in folder.glob("*/summary.json")]
    assert len(runs) == jobs
    return seconds, runs


def parse_options(description: str | None) -> argparse.Namespace:
    """The options `jobs`, `rounds` and `overrides` of a benchmark of sweeps."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of every job, such as trainer.epochs=5")
    return parser.parse_args()


def main() -> None:
    options = parse_options(__doc__)
    between, whole = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds, runs = run_sweep(Path(folder, "sweep"), options.jobs, ["sweep.jobs=1", *options.overrides])
            training = sum(run.read_summary()["train_seconds"] for run in runs)
            begun = min((run.path / "config.yaml").stat().st_mtime for run in runs)
            ended = max((run.path / "status.json").stat().st_mtime for run in runs)
        between.append((ended - begun - training) / options.jobs)
        whole.append((seconds - training) / options.jobs)
    record("a sweep job beside its training", between, "s")
    record("a sweep job beside its training, the whole command shared out", whole, "s")


if __name__ == "__main__":
    main()
