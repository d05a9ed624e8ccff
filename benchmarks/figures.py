"""The figures that a benchmark measures: printed, and kept for the table of `bench.py`.

A script calls `record("lenet5: cnnbench ÷ bare loop", ratios)` for each figure. `bench.py` sets the variable
CNNBENCH_FIGURES to the path of a file, to which `record` appends a line of JSON.
"""

import json
import os
import resource
import statistics
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "CNNBENCH_FIGURES"


def record(name: str, values: Sequence[float], unit: str = "") -> None:
    """Print the median and the range of a figure, and keep it if `bench.py` asks for it.

    Args:
        values: of each round.
        unit: such as `s` or `GB`; empty for a ratio.
    """
    print(f"{name}: {describe(values, unit)}", flush=True)
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "values": list(values), "unit": unit}) + "\n")


def describe(values: Sequence[float], unit: str = "") -> str:
    """The median, the unit, and the range if there are several values."""
    text = f"{statistics.median(values):.4g} {unit}".rstrip()
    return f"{text} ({min(values):.4g}…{max(values):.4g})" if len(values) > 1 else text


def read_processor_time(*whose: int) -> float:
    """The seconds of processor time, user and system, of this process and its children that have ended.

    Args:
        whose: only these, such as `resource.RUSAGE_CHILDREN`.
    """
    used = [resource.getrusage(one) for one in whose or (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
