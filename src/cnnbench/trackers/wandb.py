"""Weights & Biases: by default offline, in the run folder; `wandb sync RUN/wandb/offline-*` sends it later."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench.registry import register, unknown
from cnnbench.runs.folder import FINISHED, WANDB
from cnnbench.trackers import Tracked, numbers, remember, require

MODES = ("offline", "online")


class _WandB:
    def __init__(self, run: Tracked, *, mode: str, project: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report its own errors over the network
        import wandb

        self.run, self.wandb = run, wandb
        _unlink_links(run.folder / WANDB)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_save_requirements=False,
            symlink=False,
        )
        self.handle = wandb.init(
            project=project,
            name=run.name,
            id=run.id,
            resume="allow" if run.id and mode == "online" else None,
            dir=str(run.folder),
            config=run.config,
            mode=mode,  # type: ignore[arg-type]
            settings=settings,
        )
        self.epoch = 0
        remember(run.folder, "wandb", self.handle.id)

    def log(self, row: Mapping[str, Any]) -> None:
        self.epoch = int(row["epoch"])
        self.handle.log(numbers(row), step=self.epoch)

    def finish(self, summary: Mapping[str, Any]) -> None:
        table, rows = self.wandb.Table, self.run.per_class
        cells = [[key, str(value)] for key, value in summary.items()]
        shown: dict[str, Any] = {"summary": table(columns=["key", "value"], data=cells)}
        shown |= {path.stem: self.wandb.Image(str(path)) for path in self.run.pictures}
        if rows:
            shown["per_class"] = table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.handle.log(shown, step=self.epoch)
        self.handle.summary.update(numbers(summary))

    def close(self, state: str) -> None:
        self.handle.finish(exit_code=0 if state == FINISHED else 1)
        self.wandb.teardown()  # ends its process


def _unlink_links(folder: Path) -> None:
    """W&B shall write into no file that somebody's link in the run folder leads to."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            path.unlink()


@register("logger", "wandb")
def wandb(mode: str, project: str) -> Callable[[Tracked], _WandB]:
    """A run of a W&B project.

    Args:
        mode: `offline` writes to the run folder and needs neither network nor account; `online` needs both.

    Raises:
        ValueError: the package is not installed, or an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(unknown("logger.wandb.mode", mode, MODES))
    if not project.strip():
        raise ValueError(f"logger.wandb.project={project!r}: accepted is a text that is not empty")
    require("wandb")
    return partial(_WandB, mode=mode, project=project)
