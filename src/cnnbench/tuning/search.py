"""The search: draw trials, train them in processes, judge them after every epoch, and record them."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cnnbench.bars import open_bar
from cnnbench.config.schema import Config
from cnnbench.metrics import format_metric
from cnnbench.processes.capacity import Capacity, Load, Need
from cnnbench.processes.worker import Worker, WorkerEnded, wait_for_any
from cnnbench.runs.folder import FAILED, RUNNING
from cnnbench.storage.csv_tables import write_csv
from cnnbench.tuning.space import Value
from cnnbench.tuning.study import SearchStudy, SearchTrial
from cnnbench.tuning.trial_process import TrialEpoch, TrialOrder, TrialOutcome, dismiss, train_trials

log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class TrialPlan:
    """The run of a trial: its config, its overrides, and the resources that it needs."""

    config: Config
    overrides: list[str]
    need: Need


Plan = Callable[[dict[str, Value]], TrialPlan]  # of a trial's values


@dataclass
class _Busy:
    """A trial that a worker trains."""

    trial: SearchTrial
    load: Load
    epochs: int
    seconds: float = 0.0


class Search:
    """Runs trials until enough have ended.

    Args:
        plan: makes the run of a trial; if it raises a ValueError, the trial has failed.
    """

    def __init__(self, study: SearchStudy, plan: Plan) -> None:
        self.study, self.plan = study, plan
        settings = study.settings
        self.trials, self.at_once = settings.trials, settings.at_once
        self.capacity = Capacity(None if settings.workers == "auto" else settings.workers)
        self.deadline = None if settings.timeout is None else time.monotonic() + settings.timeout
        self.waiting = deque(study.list_unfinished())
        self._plans: dict[int, TrialPlan] = {}
        self.alone: deque[SearchTrial] = deque()  # ran out of memory beside others
        self.crew: list[Worker] = []
        self.busy: dict[Worker, _Busy] = {}

    def run(self) -> None:
        """Search. Afterwards, even on an error, all processes have ended and `trials.csv` lists the trials so far."""
        ended = self._count_complete()
        with open_bar(total=max(self.trials, ended), initial=ended, unit="trial") as self.bar:
            try:
                while self._start():
                    for worker in wait_for_any(self.busy, timeout=1.0):
                        self._receive(worker)
            finally:
                dismiss(self.crew)
                self._write()
        if (ended := self._count_complete()) < self.trials:
            log.info("the time limit was reached: %d of %d trials have ended", ended, self.trials)

    def _count_complete(self) -> int:
        return sum(row["state"] != RUNNING for row in self.study.list_rows())

    def _start(self) -> bool:
        """Start trials while there is room for the next one; return whether any is running."""
        while len(self.busy) < self.at_once and (trial := self._take_next()):
            if not self._begin(trial):
                self.waiting.appendleft(trial)
                break
        return bool(self.busy)

    def _take_next(self) -> SearchTrial | None:
        if self.alone and not self.busy:
            return self.alone.popleft()
        if self.deadline is not None and time.monotonic() > self.deadline:
            return None
        if self.waiting:
            return self.waiting.popleft() if self.study.can_start(self.waiting[0].number) else None
        number = len(self.study.list_rows())
        return self.study.ask() if number < self.trials and self.study.can_start(number) else None

    def _begin(self, trial: SearchTrial) -> bool:
        """Start a trial; return whether there was room for it."""
        shown = " ".join(f"{key}={_format_value(value)}" for key, value in trial.params.items())
        try:
            plan = self._plans[trial.number] = self._plans.get(trial.number) or self.plan(trial.params)
        except ValueError as error:
            log.info("trial %d: %s", trial.number, shown)
            self._end(_Busy(trial, Load(0, Need()), 0), FAILED, str(error))
            return True
        if not self.capacity.admits(plan.need, [busy.load for busy in self.busy.values()]):
            return False
        trial.folder.mkdir(exist_ok=True)
        resume = (trial.folder / "config.yaml").is_file()
        log.info("trial %d%s: %s", trial.number, " continues" if resume else "", shown)
        worker = self._get_idle_worker()
        self.busy[worker] = _Busy(trial, Load(worker.process.pid or 0, plan.need), plan.config.trainer.epochs)
        self.capacity.note_company([busy.load for busy in self.busy.values()])
        worker.send(TrialOrder(plan.config, trial.folder, plan.overrides, resume))
        return True

    def _get_idle_worker(self) -> Worker:
        self.crew = [worker for worker in self.crew if worker in self.busy or worker.process.exitcode is None]
        idle = [worker for worker in self.crew if worker not in self.busy]
        if not idle:
            idle = [Worker.start(train_trials)]
            self.crew += idle
        return idle[0]

    def _receive(self, worker: Worker) -> None:
        """Receive an epoch or the outcome of a trial, and record it."""
        busy = self.busy[worker]
        try:
            message = worker.receive()
        except WorkerEnded as ended:
            message = TrialOutcome(FAILED, str(ended), busy.load.was_killed_for_memory(ended.code))
        if isinstance(message, TrialEpoch):
            busy.load.has_peaked = True
            self.capacity.observe(busy.load)
            busy.seconds += message.row["seconds"]
            is_worse = self.study.report(busy.trial, message.row)
            worker.send(is_worse and message.row["epoch"] < busy.epochs)  # after its last epoch, pruning saves nothing
            return
        del self.busy[worker]
        if message.ran_out_of_memory and busy.load.has_company:
            log.warning("trial %d: %s; it continues alone once the others end", busy.trial.number, message.message)
            self.alone.append(busy.trial)
        else:
            self._end(busy, message.state, message.message)

    def _end(self, ended: _Busy, state: str, message: str = "") -> None:
        study, number, monitor = self.study, ended.trial.number, self.study.monitor
        study.finish(ended.trial, state, message, ended.seconds)
        row, best = study.list_rows()[number], study.find_best()
        line = f"trial {number} {row['state']}"
        if row[monitor] is not None:
            line += f", {monitor} {format_metric(monitor, row[monitor])} in {row['epochs']} epochs"
        line += f": {message}" if message else ""
        if best:
            score = format_metric(monitor, best[monitor])
            line += f"  (best: {score}, trial {best['trial']})"
            self.bar.set_postfix_str(f"best {score} (trial {best['trial']})", refresh=False)
        log.info("%s", line)
        self.bar.update()
        self._write()

    def _write(self) -> None:
        write_csv(self.study.folder / "trials.csv", self.study.list_rows())


def _format_value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
