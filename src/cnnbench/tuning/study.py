"""The study: all trials in one journal of JSON lines, written by Optuna and read without pickle.

One process owns the study and asks for trials; the others only train. The values of trial n, and whether it is pruned,
depend only on the study's seed, on n and on the trials up to n - `tune.workers`, which have ended before it starts.
So a search gives the same result on any number of cores, and after an interruption.
"""

import math
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from cnnbench.metrics import find_metric
from cnnbench.reproducibility import derive_key
from cnnbench.runs.folder import FAILED, FINISHED, PRUNED, RUNNING
from cnnbench.tuning.settings import TuneSettings
from cnnbench.tuning.space import Space, Value, round_value

JOURNAL, NAME = "study.journal", "cnnbench"


class TrialJournal(JournalStorage):
    """Shows a trial only the trials that must have ended before it starts.

    So neither its values nor its pruning depend on trials that run beside it, and thus not on the number of cores or
    on how long a trial takes.
    """

    _reader: int | None = None
    _at_once = 1

    @contextmanager
    def show_to(self, number: int, at_once: int) -> Iterator[None]:
        """A context that shows only what trial `number` may see if `at_once` trials run at once."""
        self._reader, self._at_once = number, at_once
        try:
            yield
        finally:
            self._reader = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that the reader may see, including itself; outside `show_to`, all trials."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        if self._reader is None:
            return trials
        return [trial for trial in trials if trial.number in (self._reader, *range(self._reader - self._at_once + 1))]


@dataclass
class SearchTrial:
    """A running trial.

    Attributes:
        folder: its run folder, which exists once the trial has started.
    """

    number: int
    params: dict[str, Value]
    folder: Path
    handle: optuna.trial.Trial


class SearchStudy:
    """A study in a folder that the caller has locked.

    Args:
        monitor: the metric by which trials are judged, as named in `metrics.csv`.
        most_epochs: the epochs of a full trial, which hyperband divides into rungs.

    Raises:
        ValueError: the journal is damaged.
    """

    def __init__(self, folder: Path, space: Space, settings: TuneSettings, *, monitor: str, most_epochs: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.space, self.settings = folder, space, settings
        self.monitor, self.maximize = monitor, find_metric(monitor).higher_is_better
        self._pruner = _create_pruner(settings, most_epochs)
        path = folder / JOURNAL
        _repair(path)
        try:
            self._journal = TrialJournal(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            self._study = optuna.create_study(
                study_name=NAME,
                storage=self._journal,
                direction="maximize" if self.maximize else "minimize",
                load_if_exists=True,
            )
        except Exception as error:  # Optuna raises many kinds here, assertions among them
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None

    def can_start(self, number: int) -> bool:
        """Whether a trial can start: all trials that it may see must have ended."""
        before = self._study.get_trials(deepcopy=False)[: max(0, number - self.settings.at_once + 1)]
        return all(trial.state.is_finished() for trial in before)

    def ask(self) -> SearchTrial:
        """Draw and record the values of a new trial."""
        number = len(self._study.get_trials(deepcopy=False))
        with self._show_to(number) as study:
            return self._draw_trial(study.ask())

    def list_unfinished(self) -> list[SearchTrial]:
        """The trials that an earlier process left unfinished, in order."""
        trials = []
        for frozen in self._study.get_trials(deepcopy=False):
            if not frozen.state.is_finished():
                with self._show_to(frozen.number) as study:
                    trials.append(self._draw_trial(optuna.trial.Trial(study, frozen._trial_id)))
        return trials

    def report(self, trial: SearchTrial, row: Mapping[str, Any]) -> bool:
        """Record an epoch of a trial, at most once; return whether to stop the trial."""
        epoch, value = int(row["epoch"]), row[self.monitor]
        # A trial that was interrupted repeats the epochs since its last checkpoint.
        if epoch not in self._read_frozen(trial).intermediate_values:
            trial.handle.report(math.nan if value is None else value, epoch)
        with self._journal.show_to(trial.number, self.settings.at_once):
            return trial.handle.should_prune()

    def finish(self, trial: SearchTrial, state: str, message: str = "", seconds: float = 0.0) -> None:
        """Record that a trial has ended: finished, pruned or failed.

        Args:
            seconds: spent in training passes.
        """
        trial.handle.set_user_attr("seconds", round(seconds, 3))
        trial.handle.set_user_attr("message", message)
        value = self._find_value(self._read_frozen(trial))
        if state == FINISHED and value is not None:
            self._study.tell(trial.handle, value, TrialState.COMPLETE)
        else:
            self._study.tell(trial.handle, state=TrialState.PRUNED if state == PRUNED else TrialState.FAIL)

    def list_rows(self) -> list[dict[str, Any]]:
        """A row for every trial: number, state, value, epochs, seconds, its values by key, message."""
        states = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}
        return [
            {
                "trial": frozen.number,
                "state": states.get(frozen.state.name, RUNNING),
                self.monitor: self._find_value(frozen),
                "epochs": len(frozen.intermediate_values),
                "seconds": _accept_number(frozen.user_attrs.get("seconds")),
                **{name: round_value(frozen.params.get(name)) for name in self.space},
                "message": frozen.user_attrs.get("message"),
                "folder": str(frozen.number),
            }
            for frozen in self._study.get_trials(deepcopy=False)
        ]

    def find_best(self) -> dict[str, Any] | None:
        """The row of the best finished trial, the first if several are equal; None if there is none."""
        finished = [row for row in self.list_rows() if row["state"] == FINISHED]
        sign = -1 if self.maximize else 1
        return min(finished, key=lambda row: sign * row[self.monitor], default=None)

    def compute_importances(self) -> dict[str, float]:
        """The share of the variance between finished trials that each key accounts for (fANOVA), largest first.

        Empty if too few trials have finished, or all have the same result.
        """
        values = {row[self.monitor] for row in self.list_rows() if row["state"] == FINISHED}
        if len(values) < 2:
            return {}
        try:
            return get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=0))
        except (RuntimeError, ValueError, ZeroDivisionError):  # too little variance
            return {}

    @contextmanager
    def _show_to(self, number: int) -> Iterator[optuna.Study]:
        """The study as a trial may see it."""
        with self._journal.show_to(number, self.settings.at_once):
            # A new one for each trial, because a study caches the trials that it has read.
            yield optuna.load_study(
                study_name=NAME, storage=self._journal, sampler=self._create_sampler(number), pruner=self._pruner
            )

    def _draw_trial(self, handle: optuna.trial.Trial) -> SearchTrial:
        params = {name: round_value(entry.suggest(handle, name)) for name, entry in self.space.items()}
        return SearchTrial(handle.number, params, self.folder / str(handle.number), handle)

    def _read_frozen(self, trial: SearchTrial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]

    def _find_value(self, frozen: FrozenTrial) -> float | None:
        """The value of the best epoch, chosen as in `fit`; None before the first epoch."""
        values = [value for value in frozen.intermediate_values.values() if math.isfinite(value)]
        return (max if self.maximize else min)(values, default=None)

    def _create_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        # A new sampler for each trial: one that had drawn the earlier trials would depend on how far a search had run.
        seed = derive_key(self.settings.seed, "tune", number) % 2**32  # as much as numpy accepts
        if self.settings.sampler == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=self.settings.startup_trials)


def _accept_number(attribute: Any) -> float | None:
    """A number from the journal; None for anything else, because the file is untrusted."""
    return attribute if isinstance(attribute, int | float) else None


def _create_pruner(settings: TuneSettings, most_epochs: int) -> optuna.pruners.BasePruner:
    if settings.pruner == "median":
        return MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_epochs)
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=settings.warmup_epochs, max_resource=most_epochs)
    return NopPruner()


def _repair(journal: Path) -> None:
    """Clean up after a killed process: remove Optuna's lock, which would block the study, and half a last line."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(journal, "r+b") as file:
                file.truncate(whole)
