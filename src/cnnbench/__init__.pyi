# For editors and type checkers: the names that `__init__.py` imports only when they are used.
from cnnbench.api import *  # noqa: F403

__version__: str
__all__: list[str]
