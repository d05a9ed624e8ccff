"""The command line: the only place that sees Hydra. Importing it imports neither torch nor Hydra."""

from cnnbench.cli.app import main

__all__ = ["main"]
