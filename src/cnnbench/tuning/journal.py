"""The journal of a study, with a view that makes a search independent of the number of cores."""

from collections.abc import Container, Iterator
from contextlib import contextmanager

from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState


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
