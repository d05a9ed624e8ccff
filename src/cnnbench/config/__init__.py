"""Every key of the config: type, default, what it accepts, and what it means to a run."""
