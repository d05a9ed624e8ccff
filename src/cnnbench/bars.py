"""Progress bars: on a terminal, unless a program that calls cnnbench chooses others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from tqdm import tqdm

Opener = Callable[..., "tqdm[Any]"]
_opener: ContextVar[Opener | None] = ContextVar("_opener", default=None)


def open_bar(**options: Any) -> "tqdm[Any]":
    """Open a progress bar; the options are those of `tqdm`."""
    opener = _opener.get() or partial(tqdm, disable=None)  # None: no bar unless standard error is a terminal
    return opener(**options)


@contextmanager
def use_bars(opener: Opener) -> Iterator[None]:
    """A context in which `open_bar` calls another function."""
    token = _opener.set(opener)
    try:
        yield
    finally:
        _opener.reset(token)
