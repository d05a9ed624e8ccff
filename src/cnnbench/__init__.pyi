# The types of the names that `__init__.py` imports when they are first used.

from cnnbench.api import DataRefused as DataRefused
from cnnbench.api import Error as Error
from cnnbench.api import Evaluation as Evaluation
from cnnbench.api import FileError as FileError
from cnnbench.api import InvalidRequest as InvalidRequest
from cnnbench.api import Prediction as Prediction
from cnnbench.api import Report as Report
from cnnbench.api import Run as Run
from cnnbench.api import RunFailed as RunFailed
from cnnbench.api import Sweep as Sweep
from cnnbench.api import compare as compare
from cnnbench.api import load as load
from cnnbench.api import load_plugins as load_plugins
from cnnbench.api import load_sweep as load_sweep
from cnnbench.api import sweep as sweep
from cnnbench.api import train as train

__version__: str
__all__: list[str]
