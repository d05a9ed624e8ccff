"""How many processors there are to count on."""

import os

_most: int | None = None


def cores() -> int:
    """How many processors this process may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return here if _most is None else min(here, _most)


def limit_cores(most: int | None) -> None:
    """Let this process count on no more than this, for others use the rest; None for all."""
    global _most
    _most = most
