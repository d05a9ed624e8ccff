"""`cnnbench predict --explain`: draw each image beside a heat map of where the network looked."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnbench.analysis.attribution import INSTALL, has_captum
from cnnbench.cli.streams import show_warnings
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.measuring.predictions import Prediction
from cnnbench.report.formatting import format_count
from cnnbench.runs.folder import refuse_other_content, refuse_unwritable
from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.text import format_path, to_unicode

LIST = "heat_maps.csv"
MOST = 1000  # pictures, each of which takes a tenth of a second
TOGETHER = 16  # images in a backward pass
STEM = 40  # characters of an image's name in that of its picture


def check_folder(out: Path | None) -> Path:
    """The folder for heat maps; a ValueError if it is not named or holds other files, or a package is missing."""
    if not has_captum():
        raise ValueError(f"--explain: {INSTALL}")
    if out is None:
        raise ValueError("--explain: --out DIR must name a new or an empty folder for the pictures")
    refuse_other_content(out)
    return out


class HeatMapFolder:
    """Draws the heat maps of predictions into a folder, as they arrive."""

    def __init__(self, folder: Path, predictor: Predictor) -> None:
        self.folder, self.predictor = folder, predictor
        self._rows: list[dict[str, Any]] = []
        self._left_out = 0
        with refuse_unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def follow(self, batches: Iterable[list[Prediction]]) -> Iterator[list[Prediction]]:
        """Yield the same batches, each after its pictures have been drawn."""
        for batch in batches:
            images = [one for one in batch if one.error is None]  # those that could not be read have no pixels
            wanted = images[: MOST - len(self._rows)]
            self._left_out += len(images) - len(wanted)
            for start in range(0, len(wanted), TOGETHER):
                self._draw(wanted[start : start + TOGETHER])
            yield batch

    def _draw(self, predictions: Sequence[Prediction]) -> None:
        from cnnbench.runs.figures import save_figure
        from cnnbench.runs.heat_map_figures import plot_answer

        for shown in self.predictor.explain(predictions):
            assert shown.prediction is not None
            stem = re.sub(r"[^\w.-]+", "_", Path(shown.name).stem)[:STEM]
            picture = f"{len(self._rows) + 1:04}_{stem}.png"
            row: dict[str, Any] = {
                "picture": picture,
                "file": to_unicode(shown.name),
                "class": to_unicode(self.predictor.class_names[shown.prediction]),
                "probability": shown.probability,
            }
            save_figure(plot_answer(shown, self.predictor.class_names), self.folder / picture)
            self._rows.append(row)

    def close(self) -> None:
        """List the pictures in a file, and print notes about them."""
        if not self._rows:
            return
        write_csv(self.folder / LIST, self._rows)
        maps = self.predictor.heat_maps
        if not maps.layer:
            text = (
                f"no layer of {self.predictor.model_name} has feature maps, so there is no Grad-CAM: the maps show by "
                "how much the probability falls where a part of the image is covered"
            )
            show_warnings([text])
        if self._left_out:
            show_warnings([f"only the first {MOST:,} images have pictures, and {self._left_out:,} have none"])
        print(f"wrote {format_count(len(self._rows), 'picture')} to {format_path(self.folder)}", file=sys.stderr)
