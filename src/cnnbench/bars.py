"""Progress bars: on a terminal, unless the program that calls cnnbench chooses others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

Opener = Callable[..., "tqdm[Any]"]


def _open_on_terminal(**options: Any) -> "tqdm[Any]":
    return tqdm(**options, disable=None)  # None: no bar unless standard error is a terminal


_opener: ContextVar[Opener] = ContextVar("_opener", default=_open_on_terminal)


def open_bar(**options: Any) -> "tqdm[Any]":
    """Open a progress bar; the options are those of `tqdm`."""
    return _opener.get()(**options)


@contextmanager
def use_bars(opener: Opener) -> Iterator[None]:
    """A context in which `open_bar` calls another function."""
    token = _opener.set(opener)
    try:
        yield
    finally:
        _opener.reset(token)
