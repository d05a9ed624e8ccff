"""`cnnbench config`: print the config that overrides produce."""

import yaml

from cnnbench.cli import compose
from cnnbench.cli.options import ConfigOptions
from cnnbench.config.schema import to_dict
from cnnbench.storage.text import make_printable


def show_config(options: ConfigOptions) -> None:
    """Print the composed and checked config as YAML, or those of a sweep's jobs as one document each.

    Raises:
        ValueError: an override that is not accepted.
    """
    overrides = options.overrides or []
    if any(text.lstrip("+").startswith("resume=") for text in overrides):
        raise ValueError("resume=RUN uses the run's own config, which is in RUN/config.yaml")
    request = compose.compose_request(overrides, multirun=options.multirun)
    for number, job in enumerate(request.jobs):
        if request.is_sweep:
            print(f"--- # job {number}: {make_printable(' '.join(job.overrides))}")
        print(yaml.safe_dump(to_dict(job.config), sort_keys=False, allow_unicode=True), end="")
