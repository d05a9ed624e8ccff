"""The commands as functions and objects of Python. `docs/how-to/python.md` shows their use."""

# `import X as X` makes a name public, here and by the star import of `cnnbench/__init__.pyi`.
from cnnbench.api.errors import DataRefused as DataRefused
from cnnbench.api.errors import Error as Error
from cnnbench.api.errors import FileError as FileError
from cnnbench.api.errors import InvalidRequest as InvalidRequest
from cnnbench.api.errors import RunFailed as RunFailed
from cnnbench.api.reports import Report as Report
from cnnbench.api.reports import compare as compare
from cnnbench.api.results import Evaluation as Evaluation
from cnnbench.api.results import Prediction as Prediction
from cnnbench.api.runs import Run as Run
from cnnbench.api.runs import load as load
from cnnbench.api.sweeping import Sweep as Sweep
from cnnbench.api.sweeping import load_sweep as load_sweep
from cnnbench.api.sweeping import sweep as sweep
from cnnbench.api.training import load_plugins as load_plugins
from cnnbench.api.training import train as train
