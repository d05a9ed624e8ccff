"""A search for good values of a config's keys: what varies, the study in a file, and the processes that train."""
