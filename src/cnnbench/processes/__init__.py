"""Signals, child processes that end with their parent, and the number of cores to use."""
