"""Weights & Biases: by default offline, in the run folder; `wandb sync RUN/wandb/offline-*` sends it later."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cnnbench.config.keys import Options, key
from cnnbench.registry import register
from cnnbench.runs.folder import FINISHED, WANDB
from cnnbench.trackers import TrackedRun, select_numbers, store_id


class WandBOptions(Options):
    """What `configs/logger/wandb.yaml` sets."""

    mode: Literal["offline", "online"] = key(
        "`offline` writes to the run folder and needs neither network nor account; `online` needs both", role="record"
    )
    project: Annotated[str, Field(pattern=r"\S")] = key(
        "The W&B project", role="record", accepted="text that is not blank"
    )


@register("logger", "wandb", package="wandb")
class _WandB:
    def __init__(self, run: TrackedRun, options: WandBOptions) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # otherwise it reports its own errors over the network
        import wandb

        self.run, self.wandb = run, wandb
        _remove_links(run.folder / WANDB)
        # Send nothing besides the run itself: no code, no commit, no list of packages, no processor load.
        settings = wandb.Settings(
            silent=True,
            console="off",
            symlink=False,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self.handle = wandb.init(
            project=options.project,
            name=run.name,
            id=run.id,
            resume="allow" if run.id and options.mode == "online" else None,
            dir=str(run.folder),
            config=run.config,
            mode=options.mode,
            settings=settings,
        )
        self.epoch = 0
        store_id(run.folder, "wandb", self.handle.id)

    def log(self, row: Mapping[str, Any]) -> None:
        self.epoch = int(row["epoch"])
        self.handle.log(select_numbers(row), step=self.epoch)

    def finish(self, summary: Mapping[str, Any]) -> None:
        table, rows = self.wandb.Table, self.run.per_class
        cells = [[name, str(value)] for name, value in summary.items()]
        media: dict[str, Any] = {"summary": table(columns=["key", "value"], data=cells)}
        media |= {path.stem: self.wandb.Image(str(path)) for path in self.run.pictures}
        if rows:
            media["per_class"] = table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.handle.log(media, step=self.epoch)
        self.handle.summary.update(select_numbers(summary))

    def close(self, state: str) -> None:
        self.handle.finish(exit_code=0 if state == FINISHED else 1)
        self.wandb.teardown()


def _remove_links(folder: Path) -> None:
    # W&B writes through the links to its logs, and in a stranger's run folder these may lead out of it.
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            path.unlink()
