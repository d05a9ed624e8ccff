"""How many processors and torch threads a run may use."""

import os

MOST_THREADS = 1024  # that a run may ask torch for
_most: int | None = None
_most_threads: int | None = None


def count_processors() -> int:
    """How many processors the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_cores() -> int:
    """How many processors this process may use."""
    return count_processors() if _most is None else min(count_processors(), _most)


def count_threads() -> int:
    """How many threads a run may use: one per usable processor, or fewer if `limit_threads` or OMP_NUM_THREADS says so.

    The number does not depend on how many runs share the processors, because it changes the last bits of a result.
    """
    if _most_threads is not None:
        return _most_threads
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(count_processors(), int(asked)) if asked.isdecimal() and int(asked) > 0 else count_processors()


def limit_cores(most: int | None) -> None:
    """Limit the processors that this process uses, because others use the rest; None removes the limit."""
    global _most
    _most = most


def limit_threads(most: int | None) -> None:
    """Let a run in this process compute with no more threads than this; None for no limit."""
    global _most_threads
    _most_threads = most
