"""The run folder: which file holds what, how it is read back, and what is drawn of a run."""
