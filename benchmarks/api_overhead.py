"""What a call of the Python API costs beside the command, and what importing the package costs.

    python benchmarks/api_overhead.py --rounds 7

The call: a script of `cb.train(…)` and the command `cnnbench train`, each from the start of Python to its end, in turns
and with one thread. The figure of a round is the difference of their processor times, of which other programs take
nothing, over the command's; the command draws its pictures in another process, which is counted. The import: Python
that imports cnnbench and ends, less Python that only ends.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import record

SCRIPT = "import sys, cnnbench as cb; cb.train(*sys.argv[1:])"
DEFAULT = ["model=lenet5", "data=digits", "trainer.epochs=20", "trainer.threads=1"]


def measure_processor_time(*arguments: str, cwd: str | None = None) -> float:
    """The seconds of processor time of a Python process and those it started."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=DEFAULT)
    options = parser.parse_args()
    overheads, imports = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            places = (f"hydra.run.dir={Path(folder, name)}" for name in ("command", "call"))
            command = measure_processor_time("-m", "cnnbench", "train", *options.overrides, next(places), cwd=folder)
            call = measure_processor_time("-c", SCRIPT, *options.overrides, next(places), cwd=folder)
        overheads.append(100 * (call - command) / command)
        bare = min(measure_processor_time("-c", "pass") for _ in range(5))
        imports.append(min(measure_processor_time("-c", "import cnnbench") for _ in range(5)) - bare)
    record("processor time of a call of the API over that of the command", overheads, "%")
    record("import cnnbench beyond bare Python", imports, "s")


if __name__ == "__main__":
    main()
