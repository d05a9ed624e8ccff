"""Time of `experiment=mlp_vs_lenet5`, now and before the work on speed, in turn on the same machine.

    CNNBENCH_DATA=DIR python benchmarks/experiment_time.py --rounds 1

The earlier code is a checkout of commit 8629a2f, the last without `trainer.threads`, run by the same Python with the
same packages and its own defaults: jobs one after another, with all threads. A round takes about five minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import record

ROOT = Path(__file__).resolve().parents[1]
EARLIER = "8629a2f83fef0b5f22ec554448b462765a0c4891"


def time_experiment(source: Path, overrides: list[str]) -> float:
    """Seconds of the whole command with the code of a checkout, in a temporary folder."""
    command = [sys.executable, "-m", "cnnbench", "train", "experiment=mlp_vs_lenet5", "data.download=false", *overrides]
    data = Path(os.environ.get("CNNBENCH_DATA", "data")).resolve()
    environment = os.environ | {"PYTHONPATH": str(source / "src"), "CNNBENCH_DATA": str(data)}
    environment.pop("OMP_NUM_THREADS", None)  # each has its own default
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"the experiment in {source} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


@contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """A temporary folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "src", "configs"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--commit", default=EARLIER, help="the earlier code")
    parser.add_argument("overrides", nargs="*", help="for both, such as trainer.epochs=1")
    arguments = parser.parse_args()
    with check_out(arguments.commit) as earlier:
        before, now = [], []
        for _ in range(arguments.rounds):
            before.append(time_experiment(earlier, arguments.overrides))
            now.append(time_experiment(ROOT, arguments.overrides))
    record("experiment=mlp_vs_lenet5: before issue 15", before, "s")
    record("experiment=mlp_vs_lenet5: now", now, "s")
    ratios = [new / old for new, old in zip(now, before, strict=True)]
    record("experiment=mlp_vs_lenet5: now ÷ before issue 15", ratios)


if __name__ == "__main__":
    main()
