"""Work done by several processes, its results in order; they end with whoever asked for it."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from cnnbench.processes import signals
from cnnbench.processes.signals import STOPS

log = logging.getLogger("cnnbench")
Job = TypeVar("Job")
Result = TypeVar("Result")
JOBS_AHEAD = 3  # of each process: enough that none waits, few enough that results do not pile up
LOOKS_FOR_PARENT = 1.0  # seconds
LOOKS_WHEN_DONE = 5  # one that ended at once might leave half a result, for which the parent would wait


def in_processes(
    task: Callable[[Job], Result], jobs: Iterable[Job], workers: int, *, ahead: int = JOBS_AHEAD
) -> Generator[Result, None, None]:
    """`map(task, jobs)` with the work done by processes; close it where it is not read to its end.

    The processes leave signals to this one, and end with it, however it ends.

    Args:
        task: goes to each process once; a long one looks at `stopping` now and then.
        jobs: read a few ahead.
        workers: processes; 0 does the work here.
        ahead: jobs of each process that are under way before the first result is taken.

    Raises:
        RuntimeError: a process died.
    """
    if workers == 0:
        yield from map(task, jobs)
        return
    # Forked where that is safe enough for torch's own loader: a spawned process would import torch for two seconds.
    forks = sys.platform == "linux" and hasattr(os, "fork")
    context = multiprocessing.get_context("fork" if forks else "spawn")
    try:
        stop = context.RawValue("b", False)
        pool = ProcessPoolExecutor(workers, context, _begin, (task, stop, os.getpid()))
    except OSError as error:  # what processes share lies in /dev/shm, which may be full, or not to be written
        log.warning("no processes can be started to decode (%s): decoding goes on without, as data.workers=0", error)
        yield from map(task, jobs)
        return
    remaining = iter(jobs)
    try:
        with _signals_held_back():
            # The first of these forks every process.
            under_way = deque(pool.submit(_work, job) for job in islice(remaining, ahead * workers))
        while under_way:
            result = under_way.popleft().result()
            under_way.extend(pool.submit(_work, job) for job in islice(remaining, 1))
            yield result
    except BrokenProcessPool:
        raise RuntimeError(
            "a process that decodes images died: most likely it was killed, or memory ran out; fewer data.workers help"
        ) from None
    finally:
        stop.value = True
        pool.shutdown(cancel_futures=True)


def stopping() -> bool:
    """Whether nobody waits for the results of this process any more."""
    return _stop is not None and bool(_stop.value)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Signals that end a process wait: raised within what Python does around a fork, they would be lost."""
    held: list[int] = []
    # Only the main thread runs handlers, or may change them; those that C installed cannot be put back.
    mine = threading.current_thread() is threading.main_thread() and None not in map(signal.getsignal, STOPS)
    before = {number: signal.signal(number, lambda got, _: held.append(got)) for number in STOPS if mine}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for got in held:
        signal.raise_signal(got)


_task: Any = None
_stop: Any = None


def _begin(task: Any, stop: Any, parent: int) -> None:
    global _task, _stop
    _task, _stop = task, stop
    # One that dies with a queue's lock in its hand would leave the others, and the parent, waiting for it.
    signals.leave_to_others()
    threading.Thread(target=end_with, args=(parent, stopping), daemon=True).start()


def end_with(parent: int, done: Callable[[], bool] = lambda: False) -> None:
    """End this process, at the latest a second after the one that started it; for a thread of its own.

    Args:
        done: says that nobody waits for this process any more; if it is still there some seconds later, it ends.
            Python's pool only asks by SIGTERM, from 3.12 on, where another of its processes has died.
    """
    seen = 0
    # Looked at, not waited for: the pipe that would tell is also held by the processes forked after this one.
    while os.getppid() == parent and seen < LOOKS_WHEN_DONE:
        time.sleep(LOOKS_FOR_PARENT)
        seen = seen + 1 if done() else 0
    os._exit(1)


def _work(job: Any) -> Any:
    return _task(job)
