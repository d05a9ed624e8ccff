"""TensorBoard: event files in the run folder. `tensorboard --logdir outputs` shows every run below."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.registry import register
from cnnbench.trackers import Tracked, markdown, numbers, require


class _TensorBoard:
    def __init__(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run = run
        self.writer = SummaryWriter(str(run.folder / "tensorboard"))
        self.writer.add_text("config", markdown([{"key": key, "value": v} for key, v in run.config.items()]))
        self.epoch = 0

    def log(self, row: Mapping[str, Any]) -> None:
        self.epoch = int(row["epoch"])
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, self.epoch)
        self.writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        for name, value in numbers(summary).items():
            if name.startswith("test/"):
                self.writer.add_scalar(name, value, self.epoch)
        for path in self.run.pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image(path.stem, pixels, self.epoch, dataformats="HWC")
        self.writer.add_text("summary", markdown([{"key": key, "value": v} for key, v in summary.items()]), self.epoch)
        if rows := self.run.per_class:
            self.writer.add_text("per_class", markdown(rows), self.epoch)
        # The tab HPARAMS, which compares runs; `add_hparams` would put it into a run of its own.
        plain = {k: v if isinstance(v, bool | int | float | str) else json.dumps(v) for k, v in self.run.config.items()}
        for part in hparams(plain, {k: v for k, v in numbers(summary).items() if k.startswith("test/")}):
            self.writer._get_file_writer().add_summary(part)

    def close(self, state: str) -> None:
        self.writer.close()


@register("logger", "tensorboard")
def tensorboard() -> Callable[[Tracked], _TensorBoard]:
    """Event files in the run folder's `tensorboard/`.

    Raises:
        ValueError: the package is not installed.
    """
    require("tensorboard")
    return _TensorBoard
