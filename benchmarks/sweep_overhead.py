"""What a sweep costs beside training, and how much faster joblib is: 24 LeNet-5 digits jobs.

    python benchmarks/sweep_overhead.py --rounds 2

runs the sweep in process and through joblib in turn (A B A B). Of each it prints the seconds from the first line of the
command to its end, and of the sweep in process the overhead of a job: all of those seconds, those of starting Python
and importing torch among them, less the seconds in training passes, divided by the jobs. `between` is the same from the
start of the first job to the end of the last. Ratios are of throughput, joblib ÷ in process.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from cnnbench.runs.folder import RunFolder


def measured(folder: Path, jobs: int, more: list[str]) -> tuple[float, float, float]:
    """Seconds of the whole command, between its first and its last job, and in training passes."""
    command = [sys.executable, "-m", "cnnbench", "train", f"sweep.seeds={jobs}", f"hydra.sweep.dir={folder}", *more]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    runs = [RunFolder(path.parent) for path in folder.glob("*/summary.json")]
    assert len(runs) == jobs
    begun = min((run.path / "config.yaml").stat().st_mtime for run in runs)
    ended = max((run.path / "status.json").stat().st_mtime for run in runs)
    return seconds, ended - begun, sum(run.read_summary()["train_seconds"] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="of every job, such as trainer.epochs=5")
    options = parser.parse_args()
    print(f"{datetime.now():%Y-%m-%d %H:%M}, {options.jobs} jobs: {' '.join(sys.argv)}")
    ratios = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as where:
            seconds, between, training = measured(Path(where, "alone"), options.jobs, options.overrides)
            parallel, _, _ = measured(
                Path(where, "joblib"), options.jobs, ["hydra/launcher=joblib", *options.overrides]
            )
        ratios.append(seconds / parallel)
        print(
            f"round {number + 1}: in process {seconds:.1f} s ({training:.1f} s in training; a job's overhead "
            f"{(seconds - training) / options.jobs:.2f} s, between {(between - training) / options.jobs:.2f} s); "
            f"joblib {parallel:.1f} s; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
