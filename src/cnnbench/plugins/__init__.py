"""Parts that users add from outside this package: find them, import them, and record which ones a run uses.

A plug-in is a Python file, a folder with `__init__.py`, or an installed module. It registers its parts as ours do:

    from cnnbench.plugins import Options, key, register
"""

from cnnbench.config.keys import Options, key
from cnnbench.registry import register

__all__ = ["Options", "key", "register"]
