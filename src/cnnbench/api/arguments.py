"""Checks of arguments whose type the options of a command ensure."""

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def check_folder(folder: Any) -> Path:
    """The path of a folder.

    Raises:
        ValueError: it is neither text nor a path.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"{folder!r}: must be the path of a folder")
    return Path(folder)


def check_new_folder(folder: Any) -> Path:
    """The path of a folder for a run or a sweep.

    Raises:
        ValueError: it is no path, it is empty, or the config would replace a part of it.
    """
    path = check_folder(folder)
    if not str(folder) or "${" in str(path):
        raise ValueError(f"folder={str(folder)!r}: must be a path without '${{'")
    return path


def check_batch_size(size: Any) -> None:
    """Raise a ValueError if this is no number of images, nor None."""
    if size is not None and (not isinstance(size, Integral) or size < 1):
        raise ValueError(f"batch_size={size!r}: must be a whole number from 1")


def check_numbers(**values: Any) -> None:
    """Raise a ValueError if one is neither a number nor None."""
    for name, value in values.items():
        if value is not None and not isinstance(value, Real):
            raise ValueError(f"{name}={value!r}: must be a number")


def check_texts(**values: Any) -> None:
    """Raise a ValueError if one is neither text nor None."""
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name}={value!r}: must be text")
