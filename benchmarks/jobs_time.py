"""Time of a sweep with `sweep.jobs=auto`, compared with one job after the other: 24 LeNet-5 digits jobs.

    python benchmarks/jobs_time.py --rounds 3

Both commands take turns, and last from Python's start to the report. `--jobs 12 model=vgg_mini` measures others.
"""

import tempfile
from pathlib import Path

from figures import record
from sweep_overhead import parse_options, run_sweep


def main() -> None:
    options = parse_options(__doc__)
    in_turn: list[float] = []
    at_once: list[float] = []
    for number in range(options.rounds):
        turns = [("1", in_turn), ("auto", at_once)]
        for most, seconds in turns if number % 2 == 0 else turns[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"sweep.jobs={most}", *options.overrides]
                seconds.append(run_sweep(Path(folder, "sweep"), options.jobs, overrides)[0])
    what = f"{options.jobs} lenet5 digits jobs"
    record(f"{what}: one after another", in_turn, "s")
    record(f"{what}: at once", at_once, "s")
    ratios = [together / alone for together, alone in zip(at_once, in_turn, strict=True)]
    record(f"{what}: at once ÷ one after another", ratios)


if __name__ == "__main__":
    main()
