"""The progress of a sweep: live lines on a terminal, and elsewhere a line for each job that ends."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cnnbench.metrics import find_metric, format_metric
from cnnbench.runs.folder import FAILED, FINISHED, RUNNING, RunFolder
from cnnbench.storage.text import make_printable
from cnnbench.sweeps.folder import SweepFolder
from cnnbench.sweeps.jobs import SweepJob
from cnnbench.sweeps.time_left import RestEstimate

REFRESHES = 0.5  # seconds
SHOWN = 8  # running jobs shown at once


@dataclass(frozen=True)
class JobScore:
    """The best value that a finished job reached.

    Attributes:
        monitor: `val/accuracy` with a validation split, else `test/accuracy`; for an autoencoder, the loss.
    """

    job: SweepJob
    value: float
    monitor: str

    def beats(self, other: "JobScore | None") -> bool:
        """Whether this score is better; scores of different metrics are not compared."""
        if other is None or other.monitor != self.monitor:
            return other is None
        return self.value > other.value if find_metric(self.monitor).higher_is_better else self.value < other.value

    def __str__(self) -> str:
        return f"{self.monitor} {format_metric(self.monitor, self.value)}"


class SweepProgress:
    """Follows the folders of the jobs, and shows the progress inside its context.

    Args:
        jobs: the jobs to run now.
        before: the number of other jobs that were finished before.
        axes: the keys whose values identify a job.
        at_once: the number of jobs that are expected to run side by side.
        macs: the multiply-accumulates of all epochs of each job, by its name.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        jobs: Sequence[SweepJob],
        *,
        before: int,
        axes: Sequence[str],
        at_once: int = 1,
        macs: Mapping[str, int] | None = None,
    ) -> None:
        self.sweep, self.axes, self.at_once = sweep, axes, at_once
        self._up_to = "up to " if sweep.adds_seeds else ""
        self._headline = ""
        self.waiting = list(jobs)
        self.total = len(jobs) + before
        self.running: dict[str, float] = {}  # the time at which each was first seen running
        self._rest = RestEstimate(sweep, jobs, macs or {}, at_once)
        self.failed = 0
        self.best: JobScore | None = None
        self._earlier = {job.name: self._read_update_time(job) for job in jobs}
        self._next = 0.0
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._live: Live | None = None

    def __enter__(self) -> "SweepProgress":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.refresh(at_once=True)
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def done(self) -> int:
        """The number of finished jobs."""
        return self.total - len(self.waiting) - self.failed

    def refresh(self, *, at_once: bool = False) -> None:
        """Look at the jobs and show what has changed; unless `at_once`, at most twice a second."""
        # With a launcher, a thread refreshes as well as the main thread.
        with self._lock:
            if time.monotonic() < self._next and not at_once:
                return
            self._next = time.monotonic() + REFRESHES
            for job in list(self.waiting):
                self._follow(job)
            if self._live is not None:
                self._live.update(Text(self.render(), overflow="fold"), refresh=True)

    def _follow(self, job: SweepJob) -> None:
        if self._read_update_time(job) == self._earlier[job.name]:
            return  # the status was written by an earlier command
        state = self.sweep.read_state(job)
        if state == RUNNING:
            self.running.setdefault(job.name, time.monotonic())
            return
        begun = self.running.pop(job.name, time.monotonic())
        if state in (FINISHED, FAILED):
            self.waiting.remove(job)
            if state == FINISHED:
                self._rest.add_finished(job, time.monotonic() - begun)
            self._report_end(job, state)

    def _read_update_time(self, job: SweepJob) -> int | None:
        try:
            return (self.sweep.path / job.name / "status.json").stat().st_mtime_ns
        except OSError:
            return None

    def _report_end(self, job: SweepJob, state: str) -> None:
        message = self.sweep.find_status(job).get("message", "")
        if state == FAILED:
            self.failed += 1
            result = f"failed: {message}"
        else:
            result = self._read_result(job)
        left = f", {self._render_rest()}" if self.waiting else ""
        self._print(
            f"job {job.name}: {self.label(job)}: {result} "
            f"({self.done} of {self._up_to}{self.total} finished, {self.failed} failed{left})",
            even_if_live=state == FAILED,
        )
        if state == FINISHED and message:
            self._print(f"job {job.name}: {self.label(job)}: {message}", even_if_live=True)

    def _read_result(self, job: SweepJob) -> str:
        try:
            score = _read_score(RunFolder(self.sweep.path / job.name), job)
        except (ValueError, OSError, LookupError, TypeError) as error:  # its files may have changed meanwhile
            return f"finished, but {error}"
        if score.beats(self.best):
            self.best = score
        return str(score)

    def _print(self, line: str, *, even_if_live: bool) -> None:
        line = make_printable(line)
        if self._live is None:
            print(line, file=sys.stderr, flush=True)
        elif even_if_live:
            self._live.console.print(line, markup=False, highlight=False)

    def announce(self, text: str) -> None:
        """Show a text above the running jobs until the next one; without a terminal, print it."""
        self._headline = text
        self._print(text, even_if_live=False)

    def _render_rest(self) -> str:
        seconds = self._rest.estimate(self.waiting, self.running)  # None before any job has finished an epoch
        return f"{'at most ' if self._up_to else ''}{'?' if seconds is None else _format_clock(seconds)} left"

    def label(self, job: SweepJob) -> str:
        """The settings that identify a job within its sweep."""
        values = dict(text.lstrip("+").split("=", 1) for text in job.overrides if "=" in text)
        shown = [f"{axis}={values[axis]}" for axis in self.axes if axis in values]
        return " ".join(shown) or f"model={job.config['model']['name']} seed={job.config['seed']}"

    def render(self) -> str:
        """The text for a terminal: counts, time left, the best result so far, and the running jobs."""
        waiting = len(self.waiting) - len(self.running)
        counts = f"{self.done} done, {len(self.running)} running, {self.failed} failed, {waiting} waiting"
        jobs = f"{self._up_to}{self.total} jobs in {self.sweep.path.name}"
        lines = [f"Sweep of {jobs}: {counts}, {self._render_rest()}"]
        if self._headline:
            lines.append(self._headline)
        if self.best:
            lines.append(f"best so far: {self.best}, {self.label(self.best.job)}")
        running = [job for job in self.waiting if job.name in self.running]
        return "\n".join(map(make_printable, [*lines, *map(self._render_running, running[:SHOWN])]))

    def _render_running(self, job: SweepJob) -> str:
        epoch = self.sweep.count_epochs(job)
        epochs = job.config["trainer"]["epochs"]
        at = f"epoch {epoch + 1} of {epochs}" if epoch < epochs else "testing"
        return f"job {job.name}: {self.label(job)}: {at}, {_format_clock(time.monotonic() - self.running[job.name])}"


def _read_score(run: RunFolder, job: SweepJob) -> JobScore:
    summary = run.read_summary()
    best = next((row for row in run.read_metrics() if row["epoch"] == summary["best_epoch"]), {})
    is_classified = "test/accuracy" in summary
    for name in ("val/accuracy", "val/loss") if is_classified else ("val/loss",):
        if (value := best.get(name)) is not None:
            return JobScore(job, value, name)
    name = "test/accuracy" if is_classified else "test/loss"
    return JobScore(job, summary[name], name)


def _format_clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
