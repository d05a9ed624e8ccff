"""Which jobs of a sweep are trained together: those that differ only in their seeds, with `sweep.together`."""

import math
from collections.abc import Mapping, Sequence

from cnnbench.processes.capacity import MOST_TOGETHER, Need
from cnnbench.sweeps.jobs import SweepJob, hash_config

FEWEST_ON_CPU = 8  # the fewest jobs that train faster together; benchmarks/README.md has the measurements


def plan_groups(jobs: Sequence[SweepJob]) -> list[list[SweepJob]]:
    """The jobs in groups that are trained together, and then, each by itself, those that are not; both in order."""
    alike: dict[str, list[SweepJob]] = {}
    alone = []
    for job in jobs:
        if job.config["sweep"]["together"]:
            alike.setdefault(hash_config(job.config, with_seeds=False), []).append(job)
        else:
            alone.append([job])
    groups = []
    for several in alike.values():
        parts = math.ceil(len(several) / MOST_TOGETHER)
        size = math.ceil(len(several) / parts)  # equal sizes, so that the last group is not much smaller
        groups += [several[at : at + size] for at in range(0, len(several), size)]
    return groups + alone


def check_groups(jobs: Sequence[SweepJob], needs: Mapping[str, Need]) -> None:
    """Check that each group is large enough to be faster than separate jobs.

    Args:
        needs: the need of each job, by its name.

    Raises:
        ValueError: a group on the CPU is too small.
    """
    for group in plan_groups(jobs):
        is_together = group[0].config["sweep"]["together"]
        if is_together and needs[group[0].name].device == "cpu" and len(group) < FEWEST_ON_CPU:
            raise ValueError(
                f"sweep.together=true: on the CPU, {len(group)} jobs that differ only in their seeds train more slowly "
                f"together; {FEWEST_ON_CPU} or more train faster: use sweep.seeds={FEWEST_ON_CPU}, or leave it out"
            )
