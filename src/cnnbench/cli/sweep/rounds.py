"""`sweep.until=decided`: add seeds to every config of a sweep until each comparison is decided.

The runs of one seed are a round. Rounds are looked at in order, each when all its runs have ended, so that a decision
depends on the results alone, and never on which run ended first. The comparisons are those of the report: each config
against the baseline, or up to three configs with each other, on test accuracy, seed by seed. `metrics.sequential`
decides them, and its verdicts hold although it looks after every round. The test set is still read once per run, and
no run is chosen or changed by it.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.metrics.sequential import BETTER, EQUAL, WORSE, Reading, decide
from cnnbench.processes.capacity import Capacity, Need
from cnnbench.report.comparing import choose_baseline, pair_accuracies, pair_groups
from cnnbench.report.formatting import format_count, format_difference
from cnnbench.report.groups import Group, group_runs
from cnnbench.report.runs import Run, read_runs
from cnnbench.storage.text import join_some
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import SweepJob, hash_config
from cnnbench.sweeps.progress import SweepProgress
from cnnbench.sweeps.server import JobServer
from cnnbench.sweeps.supervisor import Supervisor

MOST_NAMED = 3  # comparisons that a line of progress names


@dataclass(frozen=True)
class Decision:
    """What the rounds so far say of group `a` against group `b`, which is the baseline if one of them is.

    Attributes:
        a, b: labels.
        is_open: whether more seeds may decide it.
    """

    a: str
    b: str
    reading: Reading
    is_open: bool

    def describe(self, delta: float | None) -> str:
        """The verdict in a sentence, or the difference so far."""
        reading = self.reading
        if reading.verdict in (BETTER, WORSE):
            return f"{self.a} is {reading.verdict} than {self.b} (after {reading.decided_at} seeds)"
        if reading.verdict == EQUAL:
            within = f"within {100 * (delta or 0):g} points"
            return f"{self.a} and {self.b} are equal {within} (after {reading.decided_at} seeds)"
        if reading.mean is None:
            return f"{self.a} against {self.b} is undecided: there is no pair of runs on the same test images"
        difference = format_difference(reading.mean, reading.low, reading.high)
        return f"{self.a} against {self.b} is undecided: {difference}"


class Rounds:
    """The rounds of a sweep, and what is decided by those that are complete.

    Args:
        changed: jobs that replace those of the sweep with the same names.

    Attributes:
        complete: the number of rounds that have been looked at.
        decisions: of the comparisons, after these rounds.
        seen: the names of their jobs.
        failed: the job of each config that ended without a result; the config gets no further seeds.
    """

    def __init__(self, sweep: SweepFolder, changed: Sequence[SweepJob] = ()) -> None:
        self.sweep, self.delta = sweep, sweep.settings.delta
        self.complete = 0
        self.decisions: list[Decision] = []
        self.seen: set[str] = set()
        self.failed: dict[str, SweepJob] = {}
        self._expected = 0  # comparisons, also those of configs that have no result
        self._configs = {job.name: hash_config(job.config, with_seeds=False) for job in sweep.jobs}
        self._finished: set[str] = set()
        self._started: set[str] = set()
        self._runs: list[Run] = []
        by_name, by_seed = {job.name: job for job in changed}, defaultdict(list)
        for job in sweep.jobs:
            by_seed[job.config["seed"]].append(by_name.get(job.name, job))
        self._rounds = [
            by_seed[seed]
            for number, seed in enumerate(sorted(by_seed))
            # An earlier command may have had a higher limit.
            if number < sweep.settings.max_seeds or all(map(self._is_finished, by_seed[seed]))
        ]
        self.look()

    @property
    def is_decided(self) -> bool:
        """Whether every comparison has a verdict."""
        return 0 < len(self.decisions) == self._expected and all(one.reading.is_decided for one in self.decisions)

    @property
    def is_over(self) -> bool:
        """Whether no further seed is needed, or allowed."""
        return self.complete > 0 and (
            self.complete == len(self._rounds) or not any(one.is_open for one in self.decisions)
        )

    def look(self, failed: Collection[str] = ()) -> bool:
        """Look at the next rounds whose runs have all ended; return whether there were any.

        Args:
            failed: the names of jobs that ended without a result.
        """
        before = self.complete
        while not self.is_over and all(job.name in failed or self._is_finished(job) for job in self._list_round()):
            for job in self._list_round():
                self.seen.add(job.name)
                run = None if job.name in failed else read_runs([self.sweep.path / job.name])[0]
                if run is None or not run.summary:
                    self.failed[self._configs[job.name]] = job
                else:
                    self._runs.append(run)
            self.complete += 1
            self.decisions = self._compare()
        return self.complete > before

    def take_jobs(self, at_once: int) -> list[SweepJob]:
        """The jobs to start now, in order; each is given once.

        They belong to the next round, and to as many rounds after it as it takes to keep the machine busy meanwhile.
        """
        end = 0 if self.is_over else self.complete + 1 + math.ceil(at_once / len(self._rounds[0]))
        jobs = [
            job
            for jobs in self._rounds[:end]
            for job in jobs
            if job.name not in self._started and self._continues(job) and not self._is_finished(job)
        ]
        self._started.update(job.name for job in jobs)
        return jobs

    def list_left(self) -> list[SweepJob]:
        """The jobs that may still be run, in order."""
        return [] if self.is_over else [job for jobs in self._rounds for job in jobs if not self._is_finished(job)]

    def list_failed(self) -> list[SweepJob]:
        """The jobs that were started, or should have been, and have no result."""
        return [*self.failed.values()] or [job for job in self.list_left() if job.name in self._started]

    def settle(self) -> list[str]:
        """Reduce the sweep to the rounds that decided it, if it is over.

        Runs that had started beside the last round are set aside, because which ones these are depends on their
        speed. After a failure, all jobs stay in the sweep, so that it can continue.

        Returns:
            The names of the jobs whose runs were set aside.
        """
        if not self.is_over:
            return []
        others = [job for job in self.sweep.jobs if job.name not in self.seen]
        surplus = [job for job in others if (self.sweep.path / job.name).exists()]
        for job in surplus:
            self.sweep.set_aside(job)
        if not self.failed:
            self.sweep.jobs = [job for job in self.sweep.jobs if job.name in self.seen]
        self.sweep.write()
        return [job.name for job in surplus]

    def describe(self) -> list[str]:
        """What is decided, in lines."""
        seeds = format_count(self.complete, "seed")
        if self.complete and not self.decisions:
            return [f"Not decided after {seeds}: no two configs have a test accuracy to compare."]
        lines = [f"  {one.describe(self.delta)}" for one in self.decisions]
        if self.is_decided:
            return [f"Decided after {seeds}:", *lines]
        if self.failed:
            names = ", ".join(job.name for job in self.failed.values())
            reason = f"without a result of job {names}, its config gets no more seeds."
            return [f"Not decided after {seeds}: {reason}", *lines]
        if self.is_over:
            more = " A larger sweep.max_seeds adds seeds to these." if self.complete == len(self._rounds) else ""
            return [f"Not decided after {seeds}.{more}", *lines]
        return [f"Not decided yet after {seeds}:", *lines]

    def describe_briefly(self) -> str:
        """What is decided so far, on one line."""
        decided = sum(one.reading.is_decided for one in self.decisions)
        counts = f"after seed {self.complete - 1}: {decided} of {self._expected} comparisons decided"
        return f"{counts}; {join_some([one.describe(self.delta) for one in self.decisions], MOST_NAMED, '; ')}"

    def to_plain(self) -> dict[str, Any]:
        """What is decided so far, as plain data for `sweep.yaml`."""
        facts = ("verdict", "decided_at", "mean", "low", "high")
        comparisons = [
            {"a": one.a, "b": one.b, **{name: getattr(one.reading, name) for name in facts}} for one in self.decisions
        ]
        return {"decided": self.is_decided, "seeds": self.complete, "comparisons": comparisons}

    def _is_finished(self, job: SweepJob) -> bool:
        # Remembered, because a sweep has many jobs, and each look would read all their statuses.
        if job.name not in self._finished and self.sweep.is_finished(job):
            self._finished.add(job.name)
        return job.name in self._finished

    def _continues(self, job: SweepJob) -> bool:
        return self._configs[job.name] not in self.failed

    def _list_round(self) -> list[SweepJob]:
        """The jobs of the round that is to be looked at next."""
        return [job for job in self._rounds[self.complete] if self._continues(job)]

    def _compare(self) -> list[Decision]:
        groups = [group for group in group_runs(self._runs, None)[0] if group.accuracy]
        baseline, is_named = choose_baseline(groups, None)
        if baseline is None:
            return []
        # Fixed from the start: a config that fails or is decided does not make the others' verdicts easier.
        configs = list(dict.fromkeys(self._configs.values()))
        self._expected = len(pair_groups(configs, configs[0], all_pairs=not is_named))
        return [self._decide(a, b) for a, b in pair_groups(groups, baseline, all_pairs=not is_named)]

    def _decide(self, a: Group, b: Group) -> Decision:
        pairs = pair_accuracies(a, b)
        reading = decide([x - y for x, y in pairs or ()], delta=self.delta, comparisons=self._expected)
        is_open = (
            pairs is not None
            and not reading.is_decided
            and all(self._configs[group.runs[0].path.name] not in self.failed for group in (a, b))
        )
        return Decision(a.label, b.label, reading, is_open)


def run_rounds(
    rounds: Rounds, server: JobServer, progress: SweepProgress, *, capacity: Capacity, needs: Mapping[str, Need]
) -> None:
    """Run rounds until the sweep is over.

    Raises:
        BaseException: raised by a signal; the running jobs have been interrupted and have saved their state.
    """
    failed: set[str] = set()

    def look() -> None:
        failed.update(supervisor.list_failed())
        if rounds.look(failed):
            progress.refresh(at_once=True)
            progress.announce(rounds.describe_briefly())

    def follow() -> None:
        progress.refresh()
        look()
        supervisor.add(rounds.take_jobs(progress.at_once))

    supervisor = Supervisor(
        rounds.sweep,
        server,
        argv=rounds.sweep.argv,
        tick=follow,
        stops=lambda: rounds.is_over,
        capacity=capacity,
        needs=needs,
    )
    while jobs := rounds.take_jobs(progress.at_once):
        supervisor.run_all(jobs)
        look()  # a job whose process could not start has ended without a tick
    supervisor.close()
