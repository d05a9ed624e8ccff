"""The config of a run folder, for whoever did not write it: what it names outside of the folder is only read."""

from cnnbench.config.schema import Config, from_dict
from cnnbench.processes.cores import cores
from cnnbench.runs.folder import RunFolder


def load_config(run: RunFolder) -> Config:
    """A run's config, as `restrict_config`.

    Raises:
        ValueError: `config.yaml` has changed since it was written, or is no config.
    """
    return restrict_config(from_dict(run.read_config()))


def restrict_config(config: Config) -> Config:
    """A config, unable to write outside of the run's folder or to take all processes.

    Datasets are looked for where it says, and not fetched; decoded images are kept in the user's own cache folder, or
    nowhere, as it says, and in memory up to the usual limit; no more processes decode than there are cores. None of it
    changes a result.
    """
    config.data.download = False
    options = config.data.options
    if options.get("cache") is not None:
        options["cache"] = "auto"
    limit = options.get("memory_limit")
    if isinstance(limit, str):
        from cnnbench.data.memory import parse_bytes, total_memory  # which brings torch, and few runs have the key

        if parse_bytes("data.memory_limit", limit) > total_memory() // 3:
            options["memory_limit"] = None
    workers = options.get("workers")
    if isinstance(workers, int) and workers > cores():
        options["workers"] = cores()
    return config
