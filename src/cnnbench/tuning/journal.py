"""The file of a study, as each trial may see it."""

from collections.abc import Container, Iterator
from contextlib import contextmanager

from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState


class TrialJournal(JournalStorage):
    """Shows a trial only those trials that had ended before it could start.

    Its values and its end then depend on nothing that happens beside it: neither on the cores of a machine nor on how
    long a trial takes.
    """

    _reader: int | None = None
    _at_once = 1

    @contextmanager
    def show_to(self, number: int, at_once: int) -> Iterator[None]:
        """Inside, show what a trial may see if so many run at once."""
        self._reader, self._at_once = number, at_once
        try:
            yield
        finally:
            self._reader = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that the reader may see, itself among them; outside of `show_to`, all."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        if self._reader is None:
            return trials
        return [trial for trial in trials if trial.number in (self._reader, *range(self._reader - self._at_once + 1))]
