"""The search: trials that are drawn, trained in processes, judged after every epoch, and recorded."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cnnbench.config.schema import Config
from cnnbench.metrics import find_metric
from cnnbench.processes.worker import Worker, WorkerEnded, wait_for_any
from cnnbench.runs.folder import FAILED, RUNNING
from cnnbench.storage.csv_tables import write_csv
from cnnbench.tuning.space import Value
from cnnbench.tuning.study import SearchStudy, SearchTrial
from cnnbench.tuning.trial_process import TrialEpoch, TrialOrder, TrialOutcome, dismiss, start_trial_process

log = logging.getLogger("cnnbench")
Compose = Callable[[dict[str, Value]], tuple[Config, list[str]]]  # a trial's values → its config, and its overrides


@dataclass
class _Busy:
    """A trial that a worker trains."""

    trial: SearchTrial
    epochs: int
    seconds: float


class Search:
    """Runs trials until enough have ended.

    Args:
        compose: makes a trial's config; a ValueError makes the trial a failed one.
        trials: how many end in all, those of earlier processes included.
        timeout: seconds after which no further trial starts.
    """

    def __init__(
        self, study: SearchStudy, compose: Compose, *, trials: int, workers: int, timeout: float | None
    ) -> None:
        self.study, self.compose = study, compose
        self.trials, self.workers = trials, workers
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.waiting = deque(study.list_unfinished())
        self.crew: list[Worker] = []
        self.busy: dict[Worker, _Busy] = {}

    def run(self) -> None:
        """Search. Afterwards, also on an error, all processes have ended and `trials.csv` lists the trials so far."""
        ended = self._count_complete()
        # disable=None: a bar on a terminal, silence elsewhere.
        with tqdm(total=max(self.trials, ended), initial=ended, unit="trial", disable=None) as self.bar:
            try:
                while self._start():
                    for worker in wait_for_any(self.busy, timeout=1.0):
                        self._hear(worker)
            finally:
                dismiss(self.crew)
                self._write()
        if (ended := self._count_complete()) < self.trials:
            log.info("%d of %d trials have ended; the time limit was reached", ended, self.trials)

    def _count_complete(self) -> int:
        return sum(row["state"] != RUNNING for row in self.study.list_rows())

    def _start(self) -> bool:
        """Give every idle worker a trial until all have started; returns whether any is running."""
        while len(self.busy) < self.workers and (trial := self._start_next()):
            self._begin(trial)
        return bool(self.busy)

    def _start_next(self) -> SearchTrial | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            return None
        if self.waiting:
            return self.waiting.popleft()
        return self.study.ask() if len(self.study.list_rows()) < self.trials else None

    def _begin(self, trial: SearchTrial) -> None:
        shown = " ".join(f"{key}={_format_value(value)}" for key, value in trial.params.items())
        try:
            config, overrides = self.compose(trial.params)
        except ValueError as error:
            log.info("trial %d: %s", trial.number, shown)
            self._end(_Busy(trial, 0, 0.0), FAILED, str(error))
            return
        trial.folder.mkdir(exist_ok=True)
        resume = (trial.folder / "config.yaml").is_file()
        log.info("trial %d%s: %s", trial.number, " continues" if resume else "", shown)
        worker = self._get_idle_worker()
        self.busy[worker] = _Busy(trial, config.trainer.epochs, 0.0)
        worker.send(TrialOrder(config, trial.folder, overrides, resume))

    def _is_to_prune(self, begun: _Busy, row: dict[str, Any]) -> bool:
        """Record an epoch; a trial in its last one is not pruned, because that would save nothing."""
        begun.seconds += row["seconds"]
        return self.study.report(begun.trial, row) and row["epoch"] < begun.epochs

    def _get_idle_worker(self) -> Worker:
        self.crew = [worker for worker in self.crew if worker in self.busy or worker.process.exitcode is None]
        idle = [worker for worker in self.crew if worker not in self.busy]
        if not idle:
            idle = [start_trial_process(one_thread=self.workers > 1)]
            self.crew += idle
        return idle[0]

    def _hear(self, worker: Worker) -> None:
        try:
            message = worker.receive()
        except WorkerEnded as ended:
            message = TrialOutcome(FAILED, str(ended))
        if isinstance(message, TrialEpoch):
            worker.send(self._is_to_prune(self.busy[worker], message.row))
        else:
            self._end(self.busy.pop(worker), message.state, message.message)

    def _end(self, begun: _Busy, state: str, message: str = "") -> None:
        study, number = self.study, begun.trial.number
        metric = find_metric(study.monitor)
        study.finish(begun.trial, state, message, begun.seconds)
        row, best = study.list_rows()[number], study.find_best()
        value = row[study.monitor]
        came_to = "" if value is None else f", {study.monitor} {metric.format(value)} in {row['epochs']} epochs"
        known = f"  (best: {metric.format(best[study.monitor])}, trial {best['trial']})" if best else ""
        log.info("trial %d %s%s%s%s", number, row["state"], came_to, f": {message}" if message else "", known)
        if best:
            score = metric.format(best[study.monitor])
            self.bar.set_postfix_str(f"best {score} (trial {best['trial']})", refresh=False)
        self.bar.update()
        self._write()

    def _write(self) -> None:
        write_csv(self.study.folder / "trials.csv", self.study.list_rows())


def _format_value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
