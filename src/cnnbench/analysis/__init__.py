"""Describe a network without training it, and change images to see what it answers: plain data out."""

from cnnbench.analysis.complexity import Layer, Summary, summarize, trace_fields
from cnnbench.analysis.operations import Window

__all__ = ["Layer", "Summary", "Window", "summarize", "trace_fields"]
