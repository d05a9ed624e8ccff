"""All figures of speed in one table: `make bench`.

    CNNBENCH_DATA=DIR python benchmarks/bench.py [--only PART…] [--rounds N]

Each part is a script in this folder that measures some of the figures. If a part fails, its rows say so, and the other
parts still run. All parts take about a quarter of an hour on two idle cores.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from figures import VARIABLE, describe

HERE = Path(__file__).parent
PATIENCE = 900  # seconds for each part


@dataclass(frozen=True)
class Part:
    """A script and what it measures.

    Attributes:
        rounds: the number of rounds, unless `--rounds` changes it.
        wanted: the bound of each figure that has one.
    """

    name: str
    script: str
    rounds: int
    wanted: dict[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    needs_gpu: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    figure: str
    measured: str
    wanted: str
    part: str


PARTS = [
    Part(
        "start",
        "start_time.py",
        3,
        {
            "lenet5 epoch beside a busy core ÷ alone": "≤ 1.2",
            "resnet_mini, two threads ÷ one thread, beside a busy core": "≤ 1.2, or a warning",
            "default command ÷ (torch import + training)": "≤ 1.3",
            "memory of the default command": "≤ 0.7 GB",
        },
    ),
    Part(
        "epoch",
        "epoch_time.py",
        5,
        {"lenet5: cnnbench ÷ bare loop": "≤ 1.0", "mlp: cnnbench ÷ bare loop": "≤ 1.05"},
        ["--without-course"],
    ),
    Part(
        "api",
        "api_overhead.py",
        5,
        {
            "processor time of a call of the API over that of the command": "≤ 2 %",
            "import cnnbench beyond bare Python": "≤ 0.15 s",
        },
    ),
    Part("overhead", "sweep_overhead.py", 1, {"a sweep job beside its training": "≤ 0.25 s"}),
    Part("jobs", "jobs_time.py", 2, {"24 lenet5 digits jobs: at once ÷ one after another": "≤ 0.62"}),
    Part(
        "experiment",
        "experiment_time.py",
        1,
        {"experiment=mlp_vs_lenet5: now ÷ before issue 15": "≤ 0.70"},
    ),
    Part("recipe", "fast_recipe.py", 3, {"lenet5_fast: today's ÷ former recipe, seconds": "≤ 0.6"}, ["former"]),
    Part("peers", "peers.py", 2),
    Part("devices", "devices_time.py", 2),
    Part(
        "together",
        "together_time.py",
        2,
        {f"{seeds} seeds of mlp together ÷ one after another, cpu": "≤ 1" for seeds in (8, 32)},
        ["model.width=0.25", "--seeds", "8", "32", "--images", "6400"],
    ),
    Part("draw", "draw_check.py", 3, {"lenet5: the page's answer": "≤ 30 ms"}, ["--models", "lenet5"]),
    Part("cuda", "cuda_time.py", 3, {"32 seeds of lenet5 together ÷ one seed, cuda": "≤ 3"}, needs_gpu=True),
    Part(
        "export",
        "export_zoo.py",
        200,
        {f"{name}: torch ÷ onnxruntime, one image": "≥ 1.0" for name in ("lenet5", "mlp", "resnet_mini")},
        ["--only", "lenet5", "mlp", "resnet_mini"],
    ),
]


def measure(part: Part, rounds: int | None) -> list[Row]:
    """Run a part, whose output is shown, and return its rows."""
    if part.needs_gpu and shutil.which("nvidia-smi") is None:
        return list_unmeasured(part, "not run: no NVIDIA GPU", set()) or [
            Row(part.name, "not run: no GPU", "", part.name)
        ]
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures.jsonl")
        figures.touch()
        command = [sys.executable, str(HERE / part.script), "--rounds", str(rounds or part.rounds), *part.arguments]
        print(f"\n## {part.name}: {' '.join(command[1:])}", flush=True)
        try:
            code = subprocess.run(
                command, env=os.environ | {VARIABLE: str(figures)}, timeout=PATIENCE, check=False
            ).returncode
            problem = f"failed with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"stopped after {PATIENCE} s"
        found = [json.loads(line) for line in figures.read_text(encoding="utf-8").splitlines()]
    rows = [
        Row(one["name"], describe(one["values"], one["unit"]), part.wanted.get(one["name"], ""), part.name)
        for one in found
    ]
    rows += list_unmeasured(part, problem or "not measured", {one["name"] for one in found})
    if problem and len(rows) == len(found):
        rows.append(Row(part.name, problem, "", part.name))
    return rows


def list_unmeasured(part: Part, reason: str, measured: set[str]) -> list[Row]:
    """Rows for the figures of a part that were not measured."""
    return [Row(name, reason, wanted, part.name) for name, wanted in part.wanted.items() if name not in measured]


def print_table(rows: Sequence[Row]) -> None:
    """Print the figures as a Markdown table."""
    print("\n| figure | measured | wanted | part |\n| --- | ---: | ---: | --- |")
    for row in rows:
        print(f"| {row.figure} | {row.measured} | {row.wanted} | `{row.part}` |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[part.name for part in PARTS], help="these parts")
    parser.add_argument("--rounds", type=int, help="of every part, instead of its own number")
    arguments = parser.parse_args()
    started = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    rows: list[Row] = []
    for part in PARTS:
        if arguments.only is None or part.name in arguments.only:
            rows += measure(part, arguments.rounds)
    minutes = (time.monotonic() - started) / 60
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {cores} cores{load} at the start, Python {platform.python_version()}, "
        f"torch {version('torch')}; medians (least…most); {minutes:.0f} minutes"
    )
    print_table(rows)
    sys.exit(any(row.measured.startswith(("failed", "stopped")) for row in rows))


if __name__ == "__main__":
    main()
