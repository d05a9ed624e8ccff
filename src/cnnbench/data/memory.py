"""Sizes of memory: parse what users write, measure what is available, and refuse what would need too much."""

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
RUN_LIMIT, VARIABLE = 4 * 10**9, "CNNBENCH_MEMORY"  # bytes, and the variable that overrides them
_is_limited = ContextVar("is_limited", default=False)


def parse_bytes(key: str, text: str) -> int:
    """The bytes of a size such as 500000000, 500MB or 2GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f"{key}={text}: must be null, a number of bytes, or a size such as 500MB or 2GiB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def measure_memory() -> int:
    """The bytes this process may use: the least of the machine's memory, its container's limit and its own."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if resource is not None and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        total = min(total, limit)
    try:
        return min(total, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return total


@contextmanager
def limit_data_of_run() -> Iterator[None]:
    """A context with a lower limit, for data whose size an untrusted run folder gives."""
    token = _is_limited.set(True)
    try:
        yield
    finally:
        _is_limited.reset(token)


def limit_address_space() -> None:
    """Let this process map at most half of the memory beyond what it has, because an untrusted file may ask for all."""
    try:  # only Linux has it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return
    if resource is not None:
        most = pages * os.sysconf("SC_PAGE_SIZE") + measure_memory() // 2
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def refuse_beyond_memory(needed: float, what: str) -> None:
    """Refuse, before it is allocated, what needs more bytes than half of the memory; `what` names the key at fault.

    Within `limit_data_of_run`, the limit is `CNNBENCH_MEMORY` if that is less.
    """
    most, reason = measure_memory() // 2, "half of the memory"
    if _is_limited.get():
        own = parse_bytes(VARIABLE, os.environ.get(VARIABLE) or str(RUN_LIMIT))
        if own < most:
            most, reason = own, f"{VARIABLE}=SIZE raises it for data that a run's folder asks for"
    if needed > most:
        raise ValueError(f"{what} needs at least {needed / 1e9:,.1f} GB; the limit is {most / 1e9:,.1f} GB ({reason})")
