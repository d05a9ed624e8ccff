"""The overhead of the Python API beside the command, and the cost of importing the package.

    python benchmarks/api_overhead.py --rounds 7

API: `cb.train(…)` and the function of `cnnbench train` take turns in one process that has run both before, with one
thread. The figure of a round is the difference of their processor times divided by the command's; child processes that
draw pictures are included. Import: Python that imports cnnbench and ends, minus Python that only ends.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from figures import read_processor_time, record

import cnnbench as cb
from cnnbench.cli.options import TrainOptions
from cnnbench.cli.train import train

DEFAULT = ["model=lenet5", "data=digits", "trainer.epochs=20", "trainer.threads=1"]


def measure(function: Callable[[list[str]], object], overrides: list[str]) -> float:
    """The processor time in which a function trains in a new folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        begun = read_processor_time()
        function([*overrides, f"hydra.run.dir={Path(folder, 'run')}"])
        return read_processor_time() - begun


def measure_start(code: str) -> float:
    """The processor time of a Python process, the least of five."""
    times = []
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        times.append(usage.ru_utime + usage.ru_stime)
    return min(times)


def run_command(overrides: list[str]) -> None:
    """Train as the command does."""
    train(TrainOptions(overrides))


def call_api(overrides: list[str]) -> None:
    """Train by a call of the API."""
    cb.train(*overrides)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=DEFAULT)
    options = parser.parse_args()
    for function in (run_command, call_api):  # warm up: imports and caches
        measure(function, [*options.overrides, "trainer.epochs=1"])
    overheads = []
    for number in range(options.rounds):
        order = (run_command, call_api) if number % 2 else (call_api, run_command)
        seconds = {function: measure(function, options.overrides) for function in order}
        overheads.append(100 * (seconds[call_api] / seconds[run_command] - 1))
        print(f"round {number + 1}: command {seconds[run_command]:.2f} s, call {seconds[call_api]:.2f} s", flush=True)
    record("processor time of a call of the API over that of the command", overheads, "%")
    imports = [measure_start("import cnnbench") - measure_start("pass") for _ in range(options.rounds)]
    record("import cnnbench beyond bare Python", imports, "s")


if __name__ == "__main__":
    main()
