"""The commands as functions and objects of Python. `docs/how-to/python.md` shows their use."""

from cnnbench.api.errors import DataRefused, Error, FileError, InvalidRequest, RunFailed
from cnnbench.api.reports import Report, compare
from cnnbench.api.results import Evaluation, Prediction
from cnnbench.api.runs import Run, load
from cnnbench.api.sweeping import Sweep, load_sweep, sweep
from cnnbench.api.training import load_plugins, train

__all__ = [
    "DataRefused",
    "Error",
    "Evaluation",
    "FileError",
    "InvalidRequest",
    "Prediction",
    "Report",
    "Run",
    "RunFailed",
    "Sweep",
    "compare",
    "load",
    "load_plugins",
    "load_sweep",
    "sweep",
    "train",
]
