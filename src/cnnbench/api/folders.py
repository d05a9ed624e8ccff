"""Folders that a call names."""

import os
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
