"""How much memory is free, how much a process uses alone, and whether the kernel killed processes for lack of it.

Only Linux reports these; elsewhere the functions return None.
"""

import ctypes
import functools
import os
import platform
import re
from pathlib import Path

from cnnbench.processes.cores import list_children

CGROUP = Path("/sys/fs/cgroup")  # version 2; in a container, its own
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's names and values for `mallopt`, from malloc.h
LARGEST_KEPT = 32 * 2**20  # bytes of one block; glibc accepts no more
MOST_KEPT = 2**30


def measure_available() -> int | None:
    """The bytes that processes can still take without swapping, on the machine or in its container."""
    free = _find_number(Path("/proc/meminfo"), r"MemAvailable:\s+(\d+) kB")
    if free is None:
        return None
    free *= 1024
    limit, used = (_find_number(CGROUP / name, r"^(\d+)$") for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return free
    cached = _find_number(CGROUP / "memory.stat", r"^inactive_file (\d+)$") or 0  # given back when it is needed
    return min(free, max(0, limit - used + cached))


def measure_private(pid: int) -> int | None:
    """The bytes that a process and its children share with no other process, and would free by ending."""
    try:
        found = re.findall(r"^Private_\w+:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        children = list_children(pid)
    except OSError:
        return None
    return 1024 * sum(map(int, found)) + sum(measure_private(child) or 0 for child in children)


@functools.cache
def keep_freed_memory() -> None:
    """Keep the memory that this process frees, instead of returning it to the system; glibc only.

    Each training step needs the same blocks again, and clearing new pages takes up to a sixth of a run's time.
    """
    is_set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if not is_set_by_user and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, MOST_KEPT)


def count_oom_kills() -> int | None:
    """How many processes the kernel has killed so far because memory ran out."""
    return _find_number(Path("/proc/vmstat"), r"^oom_kill (\d+)$")


def _find_number(path: Path, pattern: str) -> int | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
