"""Signals, processes that end with whoever started them, and how many processor cores to count on."""
