"""`cnnbench find-lr`: a learning rate from a range test on the training images."""

import secrets
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.bars import open_bar
from cnnbench.cli import compose
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.options import FindLrOptions
from cnnbench.cli.run_folders import shorten
from cnnbench.cli.streams import show_log
from cnnbench.config.schema import Config, to_dict
from cnnbench.runs.folder import refuse_other_content, refuse_unwritable
from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import write_json
from cnnbench.storage.text import format_output_path

if TYPE_CHECKING:  # it imports torch, which help does without
    from cnnbench.training.lr_range import RangeTest

FOLDER = Path("outputs", "find-lr")
JSON_FILE, TABLE, PICTURE = "lr_range.json", "lr_range.csv", "lr_range.png"


def find_lr(options: FindLrOptions) -> None:
    """Run the test and write its files; print the suggestion and, last, their folder.

    Raises:
        ValueError: the command is wrong, or the config cannot be trained; nothing has been written.
        RunFailed: the loss is not finite at the first step, or never falls.
    """
    show_log()
    if not options.low < options.high:
        raise ValueError(f"--to {options.high:g}: must be above --from {options.low:g}")
    overrides = options.overrides or []
    for text in overrides:
        if text.startswith("sweep."):
            raise ValueError(f"{text} is for sweeps: find-lr tests one config")
        if text.startswith("resume="):
            raise ValueError(f"{text} is for runs that continue: find-lr tests a config from its first step")
    config = compose.compose_config(overrides)
    # Each test has its own folder, named as those of runs; with --out, a new test replaces an earlier one.
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    out = options.out or FOLDER / f"{config.model.name}_{config.data.name}_{config.optimizer.name}" / name
    refuse_other_content(out, JSON_FILE)
    # Not at the top: they import torch, which help does without.
    from cnnbench.experiment.preview import run_range_test
    from cnnbench.training.lr_range import judge_losses

    rates = np.geomspace(options.low, options.high, options.steps)
    with open_bar(total=len(rates), unit="step") as bar:
        losses = run_range_test(config, rates, advance=bar.update)
    if not np.isfinite(losses[0]):
        raise RunFailed(f"the loss is {losses[0]} at the first step, before any learning: check the data and the model")
    result = judge_losses(rates, losses)
    _write(out, config, result)
    if (found := result.suggestion) is None:
        print(format_output_path(out))
        raise RunFailed(
            f"the loss never falls between learning rates of {options.low:g} and {options.high:g} "
            f"({shorten(out / PICTURE)} shows it): try other rates with --from and --to, or check the data"
        )
    print(
        f"The loss falls fastest at {found.steepest:.2g} and is least at {found.least:.2g}. Learning rates from "
        f"{found.low:.2g} to {found.high:.2g} are worth a try; the suggestion is:\n  optimizer.lr={found.rate:g}"
    )
    print(format_output_path(out))


def _write(out: Path, config: Config, result: "RangeTest") -> None:
    from cnnbench.runs.figures import save_figure
    from cnnbench.runs.lr_figure import plot_lr_range

    found, arrays = result.suggestion, (result.rates, result.losses, result.smoothed)
    columns = zip(*(values.tolist() for values in arrays), strict=True)
    rows = [dict(zip(("lr", "loss", "smoothed"), row, strict=True)) for row in columns]
    suggestion = asdict(found) if found else None
    with refuse_unwritable(out):
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / TABLE, rows)
        figure = plot_lr_range(*arrays, (found.rate, found.low, found.high) if found else None)
        save_figure(figure, out / PICTURE)
        write_json(out / JSON_FILE, {"suggestion": suggestion, "steps": len(rows), "config": to_dict(config)})
