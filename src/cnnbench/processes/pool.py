"""Share work among several processes, with results in order."""

import logging
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from itertools import count, islice
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

from cnnbench.processes.worker import CAN_FORK, Worker, WorkerEnded, wait_for_any

log = logging.getLogger("cnnbench")
Item = TypeVar("Item")
Result = TypeVar("Result")
ITEMS_AHEAD = 3  # per process: enough that none waits, few enough that results do not pile up


class Pool(Generic[Item, Result]):
    """Processes for the same task, started at once. Close it, or they live until Python ends.

    Args:
        task: goes to each process once; `map` raises its errors.
        prepare: called in each process first.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(
        self, task: Callable[[Item], Result], processes: int, *, prepare: Callable[[], object] | None = None
    ) -> None:
        # Each has a connection of its own: a process that is killed while it holds the lock of a shared queue would
        # block all others for ever.
        self._workers: list[Worker] = []
        try:
            for _ in range(processes):
                # Forked, because a new interpreter would import torch for two seconds.
                self._workers.append(Worker.start(_work, task, prepare, fork=CAN_FORK))
        except BaseException:
            self.close()
            raise

    def map(self, items: Iterable[Item], *, ahead: int = ITEMS_AHEAD) -> Generator[Result, None, None]:
        """Yield the task's result for each item, in order. Read it to its end, or close the pool.

        The first items are handed out by this call, not when the first result is taken.

        Args:
            ahead: the items per process that are handed out before their results are taken.

        Raises:
            WorkerEnded: a process died.
        """
        numbered = iter(enumerate(items))
        load = dict.fromkeys(self._workers, 0)
        results: dict[int, tuple[Any, Exception | None]] = {}

        def hand_out() -> None:
            for item in islice(numbered, ahead * len(load) - sum(load.values()) - len(results)):
                worker = min(load, key=load.__getitem__)
                load[worker] += 1
                worker.send(item)

        def collect() -> Generator[Result, None, None]:
            for wanted in count():
                hand_out()
                if not results and not any(load.values()):
                    return
                while wanted not in results:
                    for worker in wait_for_any(load):
                        number, value, error = worker.receive()
                        results[number] = value, error
                        load[worker] -= 1
                value, error = results.pop(wanted)
                if error is not None:
                    raise error
                yield value

        hand_out()
        return collect()

    def close(self) -> None:
        """End the processes at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.close()
        self._workers = []


def map_in_processes(
    task: Callable[[Item], Result], items: Iterable[Item], processes: int, *, ahead: int = ITEMS_AHEAD
) -> Generator[Result, None, None]:
    """`map(task, items)` in a pool that ends with the iterator; close the iterator unless you read it to its end.

    Args:
        processes: with 0, or if the system starts no more processes, the work is done in this process.

    Raises:
        RuntimeError: a process died.
    """
    try:
        pool = Pool(task, processes)
    except OSError as error:
        log.warning("cannot start decoding processes (%s): decoding in this process, as with data.workers=0", error)
        processes = 0
    if processes == 0:
        yield from map(task, items)
        return
    with closing(pool):
        try:
            yield from pool.map(items, ahead=ahead)
        except WorkerEnded as error:
            raise RuntimeError(
                f"a process that decodes images died: {error}; fewer data.workers need less memory"
            ) from None


def _work(connection: Connection, task: Callable[[Any], Any], prepare: Callable[[], object] | None) -> None:
    if prepare is not None:
        prepare()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_send_all, args=(connection, outbox), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            number, item = connection.recv()
            # Pickled here, because in the sending thread a result that cannot be pickled would end the process.
            try:
                message = ForkingPickler.dumps((number, task(item), None))
            except Exception as error:
                message = ForkingPickler.dumps((number, None, error))
            outbox.put(message)


def _send_all(connection: Connection, outbox: "queue.SimpleQueue[Any]") -> None:
    """Send results in a separate thread, so that the process works on while the parent is busy."""
    with suppress(OSError):
        while True:
            connection.send_bytes(outbox.get())
