"""A call of the Python API, which restores whatever it changes in the process.

Signals, the log, torch's threads, generators and switches belong to the program that calls.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tqdm import TqdmWarning, tqdm

from cnnbench.api.errors import translate_errors
from cnnbench.bars import Opener, use_bars
from cnnbench.processes import signals

log = logging.getLogger("cnnbench")
_turn = threading.RLock()  # torch has one global generator, which training seeds at each step


@contextmanager
def open_session(*, progress: bool = True, computes: bool = True) -> Iterator[None]:
    """A context for one call; `computes` says whether it uses torch in this process."""
    with ExitStack() as entered:
        entered.enter_context(translate_errors())  # outermost: the others may raise too
        entered.enter_context(_turn)
        entered.enter_context(signals.attend())
        entered.enter_context(_pass_on_log())
        entered.enter_context(use_bars(choose_bar(progress)))
        if computes:
            from cnnbench.reproducibility import preserve_torch_settings  # not at the top: it imports torch

            entered.enter_context(preserve_torch_settings())
        yield


def choose_bar(progress: bool) -> Opener:
    """The bar for where the program runs: a notebook, a terminal, or neither."""
    if not progress:
        return partial(tqdm, disable=True)
    if "ipykernel.zmqshell" not in sys.modules:
        return partial(tqdm, disable=None)  # None: no bar unless standard error is a terminal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # without ipywidgets, the bar is text
        from tqdm.auto import tqdm as of_notebooks
    return partial(of_notebooks, disable=False)


class _PassOn(logging.Handler):
    """Passes messages to the handlers of the program, from the level that it has chosen."""

    def emit(self, record: logging.LogRecord) -> None:
        # Unlike `handle`, this does not filter by the level of the root logger, as propagation does not either.
        logging.getLogger().callHandlers(record)


@contextmanager
def _pass_on_log() -> Iterator[None]:
    """A context in which a run's log file gets all messages, and the program those of its own level."""
    level, propagate, handler = log.level, log.propagate, _PassOn(log.getEffectiveLevel())
    log.setLevel(logging.INFO)
    if propagate:  # otherwise the program has handlers of its own for this log
        log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        log.setLevel(level)
