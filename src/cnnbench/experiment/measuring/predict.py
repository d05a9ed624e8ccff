"""Predict image files with a finished run's best weights; the images are preprocessed as in training."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import tee
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from cnnbench.analysis import trace_fields
from cnnbench.data.files.decoding import decode_all
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage
from cnnbench.experiment.build import use_threads_of
from cnnbench.experiment.measuring.heat_maps import HeatMaps
from cnnbench.experiment.measuring.predictions import Answer, Prediction, check_top, predict_batches, rank_classes
from cnnbench.experiment.measuring.trained import Trained, load_trained
from cnnbench.metrics.conformal import PredictionSets
from cnnbench.reproducibility import set_deterministic
from cnnbench.runs.explanation import ShownImage
from cnnbench.training.device import resolve_device


class PredictOptions(TypedDict, total=False):
    """How images are predicted."""

    top: int  # how many classes to return for each image
    invert: bool  # take the negative of each image
    keep_pixels: bool  # with each prediction
    sets: PredictionSets | None  # decide which classes fit an image


class Predictor:
    """A run's model, ready for image files.

    Args:
        run: the run's folder.
        device: auto, cpu, cuda, cuda:N or mps; None is auto.
        batch_size: None is the run's own for evaluation. The last bits of a probability may depend on it.

    Raises:
        ValueError: not a finished run, or one of signals or without classes.
    """

    def __init__(self, run: Path, *, device: str | None = None, batch_size: int | None = None) -> None:
        trained = load_trained(run)
        trained.refuse_large_batches(1)
        if trained.info.dimensions != 2:
            raise ValueError(f"{str(run)!r} was trained on signals ({trained.info.name}): predict takes images")
        self.device = resolve_device(device or "auto")
        # As in training: on a GPU, other algorithms give other bits.
        set_deterministic(trained.config.trainer.deterministic)
        self.temperature, notes = trained.read_temperature()  # it calibrates the probabilities, if the run has one
        self.notes = [*use_threads_of(trained.folder, self.device), *notes]
        self.model = trained.load_model(self.device)
        self.model.eval()
        trained.require_classes(self.model)
        self.autocast = trained.make_autocast(self.device)
        self.batch_size = batch_size or trained.config.trainer.eval_batch_size
        self.model_name = trained.config.model.name
        self.class_names = trained.info.class_names
        self.polarity = trained.polarity
        self.decoding = get_decoding(trained)
        self._trained = trained

    def predict(
        self, files: Iterable[str], *, workers: int | None = None, **options: Unpack[PredictOptions]
    ) -> Generator[list[Prediction], None, None]:
        """Predict files in order, one batch at a time; only a few batches are in memory.

        Args:
            files: may be endless.
            workers: as for `decode_all`.

        Raises:
            ValueError: `top` is more than there are classes.
        """
        names, sources = tee(files)
        return self.predict_decoded(names, decode_all(sources, self.decoding, workers=workers), **options)

    def predict_decoded(
        self,
        names: Iterable[str],
        decoded: Generator[np.ndarray | BadImage, None, None],
        *,
        top: int = 1,
        invert: bool = False,
        keep_pixels: bool = False,
        sets: PredictionSets | None = None,
    ) -> Generator[list[Prediction], None, None]:
        """Predict images that are decoded, as `predict` does; each has a name.

        Args:
            decoded: uint8 (C, H, W) as `decoding` says, or why there is none; it is closed at the end.
            top, invert, keep_pixels, sets: as in `PredictOptions`.
        """
        check_top(top, len(self.class_names))
        classify = partial(self._classify, top=top, sets=sets)
        return predict_batches(names, decoded, classify, self.batch_size, invert=invert, keep_pixels=keep_pixels)

    @torch.no_grad()
    def _classify(self, pixels: np.ndarray, *, top: int, sets: PredictionSets | None) -> Iterator[Answer]:
        """The answer for each image of a batch, uint8 (N, C, H, W)."""
        self._trained.refuse_large_batches(len(pixels))
        ((images, _),) = self._trained.serve_images(torch.from_numpy(pixels), self.device).iterate_epoch()
        with self.autocast():
            outputs = self.model(images)
        logits = outputs.float()
        scaled = logits if self.temperature is None else logits / self.temperature.value
        arrays = logits.cpu().numpy(), scaled.softmax(1).cpu().numpy()
        return rank_classes(pixels, *arrays, top=top, polarity=self.polarity, sets=sets)

    @cached_property
    def heat_maps(self) -> HeatMaps:
        """What computes the heat maps of the run's network."""
        info = self._trained.info
        return HeatMaps(self.model, info, trace_fields(self.model, info.input_shape))

    def explain(self, predictions: Sequence[Prediction]) -> list[ShownImage]:
        """Images that were predicted, each with the preferred heat map of its likeliest class.

        Args:
            predictions: with pixels; at most a batch, and few enough for a backward pass.
        """
        shown = []
        for one in predictions:
            assert one.pixels is not None, "predicted with `keep_pixels`"
            shown.append(ShownImage(one.file, one.pixels, prediction=one.classes[0], probability=one.probabilities[0]))
        pixels = torch.from_numpy(np.stack([one.pixels for one in shown]))
        batches = self._trained.serve_images(pixels, self.device)
        ((images, _),) = batches.iterate_epoch()
        # A map belongs to the image as the network gets it.
        permuted = batches.permute(pixels).numpy()
        shown = [replace(one, pixels=some) for one, some in zip(shown, permuted, strict=True)]
        return self.heat_maps.add_maps(shown, images, [self.heat_maps.preferred])


def get_decoding(trained: Trained) -> Decoding:
    """How the run's images were decoded; only image folders have options for this."""
    options = trained.config.data.options
    given = {key: options[key] for key in ("resize", "background") if options.get(key) is not None}
    if "background" in given:
        given["background"] = tuple(given["background"])
    return Decoding(trained.info.in_channels, trained.info.image_size, **given)
