"""What a call of the Python API costs beside the command, and what importing the package costs.

    python benchmarks/api_overhead.py --rounds 7

The call: `cb.train(…)` and the function of `cnnbench train`, in turns in one process that has done both before, with
one thread. The figure of a round is the difference of their processor times, of which other programs take nothing,
over the command's; pictures that a child process draws are counted. The import: Python that imports cnnbench and ends,
less Python that only ends.
"""

import argparse
import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from figures import record

import cnnbench as cb
from cnnbench.cli.options import TrainOptions
from cnnbench.cli.train import train

DEFAULT = ["model=lenet5", "data=digits", "trainer.epochs=20", "trainer.threads=1"]


def read_processor_time() -> float:
    """The seconds of processor time of this process and of those that it has started and that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(function: Callable[[list[str]], object], overrides: list[str]) -> float:
    """The seconds of processor time that a function takes to train in a new folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        begun = read_processor_time()
        function([*overrides, f"hydra.run.dir={Path(folder, 'run')}"])
        return read_processor_time() - begun


def measure_start(code: str) -> float:
    """The seconds of processor time of a Python process; the least of five."""
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
    for function in (run_command, call_api):  # imports, and what is read once
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
