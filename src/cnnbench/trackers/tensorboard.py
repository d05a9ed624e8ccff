"""TensorBoard: event files in the run folder. `tensorboard --logdir outputs` shows every run below."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.registry import register
from cnnbench.trackers import TrackedRun, select_numbers


@register("logger", "tensorboard", package="tensorboard")
class _TensorBoard:
    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run = run
        self.writer = SummaryWriter(str(run.folder / "tensorboard"))
        self.writer.add_text("config", _to_markdown(["key", "value"], run.config.items()))
        self.epoch = 0

    def log(self, row: Mapping[str, Any]) -> None:
        self.epoch = int(row["epoch"])
        for name, value in select_numbers(row).items():
            self.writer.add_scalar(name, value, self.epoch)
        self.writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        measured = {name: value for name, value in select_numbers(summary).items() if name.startswith("test/")}
        for name, value in measured.items():
            self.writer.add_scalar(name, value, self.epoch)
        for path in self.run.pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image(path.stem, pixels, self.epoch, dataformats="HWC")
        self.writer.add_text("summary", _to_markdown(["key", "value"], summary.items()), self.epoch)
        if rows := self.run.per_class:
            self.writer.add_text("per_class", _to_markdown(rows[0], (row.values() for row in rows)), self.epoch)
        # For the HPARAMS tab, which compares runs. `add_hparams` would write them as a separate run.
        plain = {k: v if isinstance(v, bool | int | float | str) else json.dumps(v) for k, v in self.run.config.items()}
        for part in hparams(plain, measured):
            self.writer._get_file_writer().add_summary(part)

    def close(self, state: str) -> None:
        self.writer.close()


def _to_markdown(header: Any, rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
