"""Where metrics go besides the run folder. `metrics.csv` is always written, and needs no logger."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cnnbench import registry
from cnnbench.registry import register


class Logger(Protocol):
    """Takes the same rows as `metrics.csv`."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One epoch: `epoch` and every metric by name; None where there is no value."""

    def close(self) -> None:
        """Nothing more will come."""


class _Nothing:
    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


@register("logger", "none")
def no_logger(folder: Path | None) -> Logger:
    """The run folder alone."""
    return _Nothing()


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        self.writer.close()


@register("logger", "tensorboard")
def tensorboard(folder: Path | None) -> Logger:
    """Event files in the run folder's `tensorboard/`.

    Raises:
        ValueError: the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("logger=tensorboard needs the package tensorboard: pip install 'cnnbench[tensorboard]'")
    return _TensorBoard(folder) if folder is not None else _Nothing()


def open_logger(name: str, folder: Path | None, options: Mapping[str, Any] | None = None) -> Logger:
    """A registered logger that writes into a run folder; with no folder, only a check that it could.

    Raises:
        ValueError: an unknown name or option, or a package that is not installed.
    """
    return registry.build("logger", name, options=options, folder=folder)
