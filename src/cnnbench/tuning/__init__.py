"""A search for good values of config keys: the space, the study in a file, and the processes that train."""
