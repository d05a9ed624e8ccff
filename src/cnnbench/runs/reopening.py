"""The config of a run folder that may come from a stranger: it must not lead to writes outside the folder."""

from cnnbench.config.schema import Config, from_dict
from cnnbench.plugins.records import require_plugins
from cnnbench.processes.cores import count_cores
from cnnbench.runs.folder import RunFolder


def load_config(run: RunFolder, *, unchanged: bool = False) -> Config:
    """A run's config, restricted by `restrict_config`.

    Args:
        unchanged: as in `require_plugins`.

    Raises:
        ValueError: `config.yaml` has changed since it was written, or is not a config; or the run needs a plug-in that
            this command does not name.
    """
    config = from_dict(run.read_config())
    require_plugins(config, run.path, unchanged=unchanged)
    return restrict_config(config)


def restrict_config(config: Config) -> Config:
    """Keep a config from writing outside the run's folder and from taking the whole machine; results do not change.

    Datasets are not downloaded. A cache of decoded images lies in the user's own cache folder, if anywhere. Memory and
    worker processes are bounded by what the machine has.
    """
    config.data.download = False
    options = config.data.options
    if options.get("cache") is not None:
        options["cache"] = "auto"
    limit = options.get("memory_limit")
    if isinstance(limit, str):
        from cnnbench.data.memory import measure_memory, parse_bytes  # imports torch, and few runs have the key

        if parse_bytes("data.memory_limit", limit) > measure_memory() // 3:
            options["memory_limit"] = None
    workers = options.get("workers")
    if isinstance(workers, int) and workers > count_cores():
        options["workers"] = count_cores()
    return config
