"""Describe a network without training it, and change images to see what it answers: plain data out."""

from cnnbench.analysis.complexity import Layer, Summary, summarize
from cnnbench.analysis.operations import Window

__all__ = ["Layer", "Summary", "Window", "summarize"]
