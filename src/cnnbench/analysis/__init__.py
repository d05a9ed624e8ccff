"""Describe a network without training it: model in, plain data out."""

from cnnbench.analysis.complexity import Layer, Summary, summarize
from cnnbench.analysis.operations import Window

__all__ = ["Layer", "Summary", "Window", "summarize"]
