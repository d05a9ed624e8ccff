"""One run, from its config to its finished folder."""
