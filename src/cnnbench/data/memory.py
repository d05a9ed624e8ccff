"""Amounts of memory: parse what users write, measure what there is, and refuse what would need too much."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
MOST_OF_A_RUN, VARIABLE = 4 * 10**9, "CNNBENCH_MEMORY"  # bytes, and the variable that overrides them
_of_a_run = ContextVar("of_a_run", default=False)


def parse_bytes(key: str, text: str) -> int:
    """A size such as 500000000, 500MB or 2GiB, in bytes.

    Raises:
        ValueError: it is not a size; the message names the key.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f"{key}={text}: must be null, a number of bytes, or a size such as 500MB or 2GiB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def measure_memory() -> int:
    """The bytes of memory this process may use: the machine's, or its container's or its own limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        total = min(total, limit)
    try:
        return min(total, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no such limit
        return total


@contextmanager
def limit_data_of_run() -> Iterator[None]:
    """Lower the limit inside, because an untrusted run folder may say what data to make."""
    token = _of_a_run.set(True)
    try:
        yield
    finally:
        _of_a_run.reset(token)


def limit_address_space() -> None:
    """Let this process map at most half of the memory beyond what it has: a stranger's file may ask for all.

    Whatever asks for more gets an error. Only Linux says how much the process has.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return
    if resource is not None:
        most = pages * os.sysconf("SC_PAGE_SIZE") + measure_memory() // 2
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def refuse_beyond_memory(needed: float, what: str) -> None:
    """Refuse what needs more than half of the memory, before allocating it.

    Args:
        needed: bytes, at least.
        what: begins the message, and names the key at fault.

    Raises:
        ValueError: it does; or within `limit_data_of_run`, it needs more than `CNNBENCH_MEMORY` says.
    """
    most, said = measure_memory() // 2, "half of the memory"
    if _of_a_run.get():
        own = parse_bytes(VARIABLE, os.environ.get(VARIABLE) or str(MOST_OF_A_RUN))
        if own < most:
            most, said = own, f"{VARIABLE}=SIZE raises it for data that a run's folder asks for"
    if needed > most:
        raise ValueError(f"{what} needs at least {needed / 1e9:,.1f} GB; the limit is {most / 1e9:,.1f} GB ({said})")
