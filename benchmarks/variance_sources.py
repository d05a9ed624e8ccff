"""Measure the shares of the variance of an experiment with `sweep.alone`, without the pictures of each run.

    OMP_NUM_THREADS=1 CNNBENCH_DATA=DIR python benchmarks/variance_sources.py OUT experiment=variance_lenet5

The script trains the jobs of the sweep one after the other in one process, seed by seed, in the folder OUT, to the same
bits as `cnnbench train`, which also draws each run's pictures. Then it writes a report to OUT and prints its table.
Runs that are finished are not repeated, so the command may be interrupted.
"""

import argparse
import shutil
import time
from pathlib import Path

from cnnbench.cli.compose import compose_request
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.config.seeds import read_seeds
from cnnbench.experiment.run import run_job
from cnnbench.report.section_tables import tabulate_variance
from cnnbench.report.writing import write_report
from cnnbench.sweeps.jobs import plan_jobs


def train_all(out: Path, overrides: list[str]) -> None:
    """Train every job of the sweep that has no result yet."""
    request = compose_request(overrides)
    jobs = plan_jobs((to_dict(job.config), job.overrides) for job in request.jobs)
    # Seed by seed, so that an interrupted command has equally many networks of each source.
    for number, job in enumerate(sorted(jobs, key=lambda job: max(read_seeds(job.config))), 1):
        folder = out / job.name
        if (folder / "summary.json").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        summary = run_job(from_dict(job.config), folder, job.overrides, draw=lambda pictures, wait=True: None)
        print(f"{number} of {len(jobs)}: {read_seeds(job.config).name} {summary['test/accuracy']:.4f}", flush=True)


def main() -> None:
    """Train, report, and print the table with the processor time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="+")
    arguments = parser.parse_args()
    start = time.process_time()
    train_all(arguments.out, arguments.overrides)
    seconds = time.process_time() - start
    table = tabulate_variance(write_report([arguments.out], arguments.out)).adapt_to("text")
    for row in ([column.heading for column in table.columns], ["---"] * len(table.columns), *table.texts):
        print(f"| {' | '.join(row)} |")
    print(f"processor time: {seconds:.0f} s")


if __name__ == "__main__":
    main()
