"""How many processors and torch threads a run may use, and how busy the processors are."""

import os
import re
from contextlib import suppress
from pathlib import Path

MOST_THREADS = 1024  # the largest accepted number of torch's threads
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
    most = os.environ.get("OMP_NUM_THREADS", "")
    return min(count_processors(), int(most)) if most.isdecimal() and int(most) > 0 else count_processors()


def limit_cores(most: int | None) -> None:
    """Limit the processors that this process uses, because others use the rest; None removes the limit."""
    global _most
    _most = most


def limit_threads(most: int | None) -> None:
    """Let a run in this process compute with no more threads than this; None for no limit."""
    global _most_threads
    _most_threads = most


def measure_use() -> tuple[float, float] | None:
    """The seconds of processor time so far: of all programs, and of this process with those that it started.

    Only the processors that this process may use are counted. None on systems other than Linux.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    try:
        times = re.findall(r"^cpu(\d+) (.*)", Path("/proc/stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    mine, everyone = os.sched_getaffinity(0), 0
    for number, line in times:
        if int(number) in mine:
            user, nice, system, _idle, _wait, irq, softirq = map(int, line.split()[:7])
            everyone += user + nice + system + irq + softirq
    ticks = os.sysconf("SC_CLK_TCK")
    return (everyone / ticks, _count_ticks(os.getpid()) / ticks) if everyone else None


def list_children(pid: int) -> list[int]:
    """The processes that the main thread of a process has started; Linux only.

    Raises:
        OSError: it has ended.
    """
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _count_ticks(pid: int) -> int:
    """The processor time of a process and of those that its main thread started; 0 once it has ended."""
    with suppress(OSError):
        # The name, in brackets, may hold blanks. Fields 11 to 14 after it are the times of the process and of its
        # children that have ended.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) + sum(map(_count_ticks, list_children(pid)))
    return 0
