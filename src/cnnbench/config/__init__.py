"""Every key of the config: type, default, accepted values, and its role in a run."""
