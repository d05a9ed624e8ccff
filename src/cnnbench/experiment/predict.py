"""Predict image files with a finished run's best weights; the images are preprocessed as in training."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import tee
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.analysis import trace_fields
from cnnbench.data import Batches, Split
from cnnbench.data.files.decoding import decode_all
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import BadImage
from cnnbench.experiment.heat_maps import HeatMaps
from cnnbench.experiment.predictions import Answer, Prediction, check_top, predict_batches, rank_classes
from cnnbench.experiment.trained import Trained, load_trained
from cnnbench.metrics.conformal import PredictionSets
from cnnbench.reproducibility import set_deterministic
from cnnbench.runs.explanation import ShownImage
from cnnbench.training.device import resolve_device
from cnnbench.training.tasks import get_task


class Predictor:
    """A run's model, ready for image files.

    Args:
        run: the run's folder.
        device: auto, cpu, cuda, cuda:N or mps; None is auto.
        batch_size: None is the run's own for evaluation. The last bits of a probability may depend on it.

    Attributes:
        notes: what a reader of the predictions must know.
        temperature: that calibrates the probabilities; None if the run has none.
        polarity: of the training images, if nearly all have the same; see `cnnbench.data.polarity`.

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
        self.temperature, notes = trained.read_temperature()
        self.notes = [*trained.use_threads(self.device), *notes]
        self.model = trained.load_model(self.device)
        self.model.eval()
        if not get_task(self.model).has_classes:
            raise ValueError(
                f"{str(run)!r} is a {get_task(self.model).name} run ({trained.config.model.name}): "
                "it has no classes to predict"
            )
        self.autocast = trained.make_autocast(self.device)
        self.batch_size = batch_size or trained.config.trainer.eval_batch_size
        self.model_name = trained.config.model.name
        self.class_names = trained.info.class_names
        self.polarity = trained.polarity
        self.decoding = get_decoding(trained)
        self._trained = trained

    def predict(
        self,
        files: Iterable[str],
        *,
        top: int = 1,
        invert: bool = False,
        workers: int | None = None,
        keep_pixels: bool = False,
        sets: PredictionSets | None = None,
    ) -> Generator[list[Prediction], None, None]:
        """Predict files in order, one batch at a time; only a few batches are in memory.

        Args:
            files: may be endless.
            top: how many classes to return for each file.
            invert: take the negative of each image.
            workers: as for `decode_all`.
            keep_pixels: with each prediction.
            sets: what decides which classes fit an image.

        Raises:
            ValueError: `top` is more than there are classes.
        """
        names, sources = tee(files)
        decoded = decode_all(sources, self.decoding, workers=workers)
        return self.predict_decoded(names, decoded, top=top, invert=invert, keep_pixels=keep_pixels, sets=sets)

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
        """
        check_top(top, len(self.class_names))
        classify = partial(self._classify, top=top, sets=sets)
        return predict_batches(names, decoded, classify, self.batch_size, invert=invert, keep_pixels=keep_pixels)

    def _classify(self, pixels: np.ndarray, *, top: int, sets: PredictionSets | None) -> Iterator[Answer]:
        """The answer for each image; `pixels` are uint8 (N, C, H, W)."""
        self._trained.refuse_large_batches(len(pixels))
        logits, probabilities = self._forward(torch.from_numpy(pixels))
        return rank_classes(pixels, logits, probabilities, top=top, polarity=self.polarity, sets=sets)

    @torch.no_grad()
    def _forward(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Logits and probabilities, calibrated if the run is, of one batch; each float32 (N, K)."""
        with self.autocast():
            logits = self.model(self._prepare(images))
        logits = logits.float()
        scaled = logits if self.temperature is None else logits / self.temperature.value
        return logits.cpu().numpy(), scaled.softmax(1).cpu().numpy()

    def _serve(self, images: Tensor) -> Batches:
        return Batches(
            Split(images, torch.zeros(len(images), dtype=torch.int64)).to(self.device),
            self.batch_size,
            mean=self._trained.mean,
            std=self._trained.std,
            channels_last=self._trained.config.trainer.channels_last,
        ).with_permuted_pixels(self._trained.config.data.permute_pixels)

    def _prepare(self, images: Tensor) -> Tensor:
        """Pixels of at most one batch as the network takes them."""
        ((batch, _),) = self._serve(images).iterate_epoch()
        return batch

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
            assert one.pixels is not None, "they were asked for"
            shown.append(ShownImage(one.file, one.pixels, prediction=one.classes[0], probability=one.probabilities[0]))
        pixels = torch.from_numpy(np.stack([one.pixels for one in shown]))
        images = self._prepare(pixels)
        if self._trained.config.data.permute_pixels:  # the maps are of what the network gets
            permuted = self._serve(pixels).permute(pixels).numpy()
            shown = [replace(one, pixels=some) for one, some in zip(shown, permuted, strict=True)]
        return self.heat_maps.add_maps(shown, images, [self.heat_maps.preferred])


def get_decoding(trained: Trained) -> Decoding:
    """How the run's images were decoded; only image folders have options for this."""
    options = trained.config.data.options
    given = {key: options[key] for key in ("resize", "background") if options.get(key) is not None}
    if "background" in given:
        given["background"] = tuple(given["background"])
    return Decoding(trained.info.in_channels, trained.info.image_size, **given)
