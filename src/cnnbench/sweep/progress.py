"""How a sweep stands while it runs: live lines on a terminal, a line for each job that ends elsewhere."""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cnnbench.runs.folder import FAILED, FINISHED, RUNNING, RunFolder
from cnnbench.storage.text import format_percent, make_printable
from cnnbench.sweep.folder import SweepFolder
from cnnbench.sweep.jobs import Job

REFRESHES = 0.5  # seconds
SHOWN = 8  # running jobs in the table


@dataclass(frozen=True)
class Result:
    """What a finished job came to.

    Attributes:
        score: the best value of `monitor` among those of the sweep counts; higher is better for all but losses.
        monitor: `val/accuracy` where there is a validation split, else what was tested.
    """

    job: Job
    score: float
    monitor: str

    def beats(self, other: "Result | None") -> bool:
        """Whether this one is better; a score of another kind is not compared."""
        if other is None or other.monitor != self.monitor:
            return other is None
        return self.score < other.score if self.monitor.endswith("loss") else self.score > other.score

    def __str__(self) -> str:
        score = f"{self.score:.4f}" if self.monitor.endswith("loss") else format_percent(self.score)
        return f"{self.monitor} {score}"


class Progress:
    """Follows the jobs' folders; used as a context, within which it is shown.

    Args:
        jobs: those that are run now.
        before: how many others of the sweep were finished already.
        axes: the overrides worth showing.
        at_once: jobs that run side by side.
    """

    def __init__(
        self, sweep: SweepFolder, jobs: Sequence[Job], *, before: int, axes: Sequence[str], at_once: int = 1
    ) -> None:
        self.sweep, self.before, self.axes, self.at_once = sweep, before, axes, at_once
        self.waiting = list(jobs)
        self.total = len(jobs) + before
        self.running: dict[str, float] = {}  # when each was first seen
        self.seconds: list[float] = []  # what those that ended took
        self.failed = 0
        self.best: Result | None = None
        self._old = {job.name: _updated(sweep, job) for job in jobs}
        self._next = 0.0
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look(at_once=True)
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def done(self) -> int:
        """How many jobs of the sweep are finished."""
        return self.total - len(self.waiting) - self.failed

    def look(self, *, at_once: bool = False) -> None:
        """See what has changed and show it; more often than twice a second does nothing."""
        if not self._lock.acquire(blocking=at_once):
            return
        try:
            if time.monotonic() < self._next and not at_once:
                return
            self._next = time.monotonic() + REFRESHES
            for job in list(self.waiting):
                self._look_at(job)
            if self._live is not None:
                self._live.update(Text(self.shown(), overflow="fold"), refresh=True)
        finally:
            self._lock.release()

    def _look_at(self, job: Job) -> None:
        updated = _updated(self.sweep, job)
        if updated == self._old[job.name]:
            return  # as an earlier call of the command has left it
        state = self.sweep.state(job)
        if state == RUNNING:
            self.running.setdefault(job.name, time.monotonic())
        elif state in (FINISHED, FAILED):
            seconds = time.monotonic() - self.running.pop(job.name, time.monotonic())
            self.waiting.remove(job)
            self.seconds.append(seconds)
            self._note(job, state)
        else:
            self.running.pop(job.name, None)

    def _note(self, job: Job, state: str) -> None:
        run = RunFolder(self.sweep.path / job.name)
        message = run.find_status().get("message", "")
        if state == FAILED:
            self.failed += 1
            came_to = f"failed: {message}"
        else:
            came_to = self._came_to(run, job)
        left = f", {self.time_left()} left" if self.waiting else ""
        self._say(
            f"job {job.name}: {self.label(job)}: {came_to} "
            f"({self.done} of {self.total} finished, {self.failed} failed{left})",
            loud=state == FAILED,
        )
        if state == FINISHED and message:
            self._say(f"job {job.name}: {self.label(job)}: {message}", loud=True)

    def _came_to(self, run: RunFolder, job: Job) -> str:
        try:
            result = _result(run, job)
        except (ValueError, OSError, LookupError, TypeError) as error:  # somebody has changed its files meanwhile
            return f"finished, but {error}"
        if result.beats(self.best):
            self.best = result
        return str(result)

    def _say(self, line: str, *, loud: bool) -> None:
        line = make_printable(line)
        if self._live is None:
            print(line, file=sys.stderr, flush=True)
        elif loud:
            self._live.console.print(line, markup=False, highlight=False)

    def time_left(self) -> str:
        """An estimate from what the ended jobs took, such as `3:20`."""
        if not self.seconds:
            return "?"
        each = sum(self.seconds) / len(self.seconds)
        spent = sum(min(time.monotonic() - since, each) for since in self.running.values())
        return _clock(max(0.0, len(self.waiting) * each - spent) / self.at_once)

    def label(self, job: Job) -> str:
        """What sets a job apart within its sweep."""
        given = dict(text.lstrip("+").split("=", 1) for text in job.overrides if "=" in text)
        shown = [f"{axis}={given[axis]}" for axis in self.axes if axis in given]
        return " ".join(shown) or f"model={job.config['model']['name']} seed={job.config['seed']}"

    def shown(self) -> str:
        """What a terminal shows: counts, time left and the best so far; below it, the jobs that run."""
        waiting = len(self.waiting) - len(self.running)
        counts = f"{self.done} done, {len(self.running)} running, {self.failed} failed, {waiting} waiting"
        lines = [f"Sweep of {self.total} jobs in {self.sweep.path.name}: {counts}, {self.time_left()} left"]
        if self.best:
            lines.append(f"best so far: {self.best}, {self.label(self.best.job)}")
        running = [job for job in self.waiting if job.name in self.running]
        return "\n".join(map(make_printable, [*lines, *map(self._line, running[:SHOWN])]))

    def _line(self, job: Job) -> str:
        try:
            epoch = RunFolder(self.sweep.path / job.name).read_metrics_file().count(b"\n") - 1
        except (OSError, ValueError):
            epoch = 0
        epochs = job.config["trainer"]["epochs"]
        at = f"epoch {epoch + 1} of {epochs}" if epoch < epochs else "being tested"
        return f"job {job.name}: {self.label(job)}: {at}, {_clock(time.monotonic() - self.running[job.name])}"


def _result(run: RunFolder, job: Job) -> Result:
    summary, rows = run.read_summary(), run.read_metrics()
    best: dict[str, Any] = next((row for row in rows if row["epoch"] == summary["best_epoch"]), {})
    names = ("val/accuracy", "val/loss") if "test/accuracy" in summary else ("val/loss",)
    name = next((name for name in names if best.get(name) is not None), None)
    if name is not None:
        return Result(job, best[name], name)
    name = "test/accuracy" if "test/accuracy" in summary else "test/loss"
    return Result(job, summary[name], name)


def _updated(sweep: SweepFolder, job: Job) -> int | None:
    """When the job's status was last written; None before there is one."""
    try:
        return (sweep.path / job.name / "status.json").stat().st_mtime_ns
    except OSError:
        return None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
