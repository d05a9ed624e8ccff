"""Checks of arguments whose type the options of a command ensure."""

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypedDict

from cnnbench.registry import describe_unknown


class MeasuringOptions(TypedDict, total=False):
    """More options of `Run.evaluate`, as of the command `evaluate`.

    Attributes:
        root: where datasets lie.
        exclude: a CSV list of images to leave out, as `cnnbench check` writes it.
        abstain: predict sets of classes that lack the true one for at most this share of images.
        out: a folder for the results, instead of one inside the run's.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images a batch.
    """

    root: str | None
    exclude: str | None
    abstain: float | None
    out: str | Path | None
    device: str | None
    batch_size: int | None


def check_folder(folder: Any) -> Path:
    """The path of a folder; a ValueError if it is neither text nor a path."""
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"{folder!r}: must be the path of a folder")
    return Path(folder)


def check_new_folder(folder: Any) -> Path:
    """The path of a new folder; a ValueError if it is no path, is empty, or has a part that Hydra would replace."""
    path = check_folder(folder)
    if not str(folder) or "${" in str(path):
        raise ValueError(f"folder={str(folder)!r}: must be a path without '${{'")
    return path


def check_batch_size(size: Any) -> None:
    """Raise a ValueError if this is no number of images, nor None."""
    if size is not None and (not isinstance(size, Integral) or size < 1):
        raise ValueError(f"batch_size={size!r}: must be a whole number from 1")


def check_types(kind: type, words: str, **values: Any) -> None:
    """Raise a ValueError if a value is neither of a type, which `words` name, nor None."""
    for name, value in values.items():
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{name}={value!r}: must be {words}")


def check_measuring(options: MeasuringOptions) -> None:
    """Raise a ValueError if an option does not exist, or has a value of another type."""
    valid = MeasuringOptions.__annotations__
    if unknown := options.keys() - valid.keys():
        raise ValueError(describe_unknown("option", min(unknown), valid))
    check_batch_size(options.get("batch_size"))
    check_types(Real, "a number", abstain=options.get("abstain"))
