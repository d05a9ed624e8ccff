"""Predict image files with an ONNX file that `cnnbench export` wrote, without torch."""

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import tee
from pathlib import Path

import numpy as np

from cnnbench.data.files.decoding import decode_all
from cnnbench.data.files.fitting import Decoding
from cnnbench.experiment.measuring.predictions import Answer, Prediction, check_top, predict_batches, rank_classes
from cnnbench.exporting.onnx_files import INPUT, read_onnx, start_session
from cnnbench.processes.cores import count_cores
from cnnbench.runs.calibration import Temperature
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import get_first_line, make_printable

BATCH_SIZE = 256


class OnnxPredictor:
    """Predicts image files with an exported network, as `measuring.predict.Predictor` does with a run.

    Args:
        path: the file.
        batch_size: images per batch.

    Attributes:
        temperature: inside the network, which calibrates the probabilities; None if the run had none.
        polarity: of the training images, if nearly all have the same.

    Raises:
        ValueError: as for `read_onnx`, or onnxruntime does not accept the file.
    """

    def __init__(self, path: Path, *, batch_size: int | None = None) -> None:
        content, found = read_onnx(path)
        try:
            self._session = start_session(content, count_cores())
        except Exception as error:  # its errors have no class in common
            refuse_damaged(path, _find_line(error))
        self._path = path
        self.batch_size = batch_size or BATCH_SIZE
        self.class_names = tuple(found.class_names)
        self.polarity = found.input.polarity
        kept = found.temperature
        self.temperature = Temperature(kept.value, kept.images) if kept else None
        height, width = found.input.size
        red, green, blue = found.input.background
        self.decoding = Decoding(found.input.channels, (height, width), found.input.resize, (red, green, blue))

    def predict(
        self, files: Iterable[str], *, top: int = 1, invert: bool = False, workers: int | None = None
    ) -> Generator[list[Prediction], None, None]:
        """Predict files in order, one batch at a time; the arguments are those of `Predictor.predict`.

        Raises:
            ValueError: `top` is more than there are classes; or later, the file fails.
        """
        check_top(top, len(self.class_names))
        classify = partial(self._classify, top=top)
        names, sources = tee(files)
        decoded = decode_all(sources, self.decoding, workers=workers)
        return predict_batches(names, decoded, classify, self.batch_size, invert=invert)

    def compute(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and probabilities, each float32 (N, K), of images uint8 (N, C, H, W).

        Raises:
            ValueError: the file fails.
        """
        try:
            logits, probabilities = self._session.run(None, {INPUT: pixels})
        except Exception as error:
            refuse_damaged(self._path, _find_line(error))
        for found in (logits, probabilities):
            if found.dtype != np.float32 or found.shape != (len(pixels), len(self.class_names)):
                refuse_damaged(self._path, f"it gives {found.dtype} {found.shape} for {len(pixels)} images")
        return logits, probabilities

    def _classify(self, pixels: np.ndarray, *, top: int) -> Iterator[Answer]:
        return rank_classes(pixels, *self.compute(pixels), top=top, polarity=self.polarity)


def _find_line(error: Exception) -> str:
    return make_printable(get_first_line(error))
