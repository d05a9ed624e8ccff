"""Images and labels that a Python program passes as arrays. A run records their hash, but not the arrays."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbench.config.keys import Options, key
from cnnbench.data.contents import digest
from cnnbench.data.dataset import DatasetInfo, Source, Split, to_image_size
from cnnbench.registry import register
from cnnbench.storage.text import join_some

NAME = "arrays"  # of this dataset in a config
MOST_CHANNELS = 4  # of an axis that is taken for that of the channels
SHAPES = "N×H×W, N×H×W×C or N×C×H×W"
_given: ContextVar["ArrayData | None"] = ContextVar("_given", default=None)


class ArrayOptions(Options):
    """What a run records about the arrays."""

    sha256: str = key("The SHA-256 of images, labels and class names")


@dataclass(frozen=True)
class ArrayData:
    """Images, uint8 (N, C, H, W), and the class of each by name."""

    train: tuple[Tensor, list[str]]
    test: tuple[Tensor, list[str]] | None  # None if it is to be cut from `train`
    class_names: tuple[str, ...]  # in the order of the labels

    @cached_property
    def sha256(self) -> str:
        """The hash that identifies the data."""
        return digest(self._source.info, self._source.train, self._source.test)

    @cached_property
    def _source(self) -> Source:
        return self._make_source(self.class_names)

    def make_source(self, class_names: Sequence[str] | None = None) -> Source:
        """The data as a source, with the classes of the run that is measured on them, if any.

        Raises:
            ValueError: a label is not one of these classes.
        """
        names = tuple(class_names or self.class_names)
        if unknown := [name for name in self.class_names if name not in names]:
            raise ValueError(
                f"data: the labels have {join_some(list(map(repr, unknown)), 5)}, which the run was not trained on: "
                f"its classes are {join_some(list(map(repr, names)), 20)}"
            )
        return self._source if names == self.class_names else self._make_source(names)

    def _make_source(self, names: tuple[str, ...]) -> Source:
        images = self.train[0]
        info = DatasetInfo(NAME, images.shape[1], to_image_size(*images.shape[2:]), names)
        test = None if self.test is None else _make_split(self.test, names)
        return Source(info, _make_split(self.train, names), test).add_marks()


def _make_split(part: tuple[Tensor, list[str]], names: Sequence[str]) -> Split:
    numbers = {name: number for number, name in enumerate(names)}
    return Split(part[0], torch.tensor([numbers[label] for label in part[1]], dtype=torch.int64))


@contextmanager
def give_arrays(data: ArrayData | None) -> Iterator[None]:
    """A context in which the dataset `arrays` consists of these."""
    token = _given.set(data)
    try:
        yield
    finally:
        _given.reset(token)


def arrays(options: ArrayOptions, classes: list[str] | None = None) -> Source:
    """The arrays of `give_arrays`, if they are those of the run."""
    data = _given.get()
    if data is None or data.sha256 != options.sha256:
        problem = "and these are others" if data else "which its folder does not hold"
        raise ValueError(
            f"data={NAME}: the images of this run were arrays of a Python program, {problem}: pass them again from "
            "Python, as in cnnbench.load(RUN).evaluate(data=(images, labels))"
        )
    return data.make_source(classes)


# By a call, because options of parts that a decorator registers are keys of every config.
register("data", NAME, listed=False)(arrays)
register("data_kept", NAME)(arrays)


def read_arrays(data: Any) -> ArrayData:
    """Check `(images, labels)`, or `((images, labels), (images, labels))` for training and test."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError("data: must be a dataset's name, (images, labels), or a pair of these for training and test")
    is_pair = all(isinstance(part, tuple | list) and len(part) == 2 for part in data)
    parts = [_read_part(*part) for part in (data if is_pair else [data])]
    images = [part[0] for part in parts]
    if images[0].shape[1:] != images[-1].shape[1:]:
        shapes = " and ".join("×".join(map(str, one.shape[1:])) for one in images)
        raise ValueError(f"data: training and test images must have the same shape; these have {shapes}")
    classes = np.unique(np.concatenate([part[1] for part in parts]))  # whole numbers by value, text by its letters
    if len(classes) < 2:
        raise ValueError(f"data: the labels name {len(classes)} class: at least two are needed")
    named = [(part[0], [str(label) for label in part[1].tolist()]) for part in parts]
    return ArrayData(named[0], named[1] if is_pair else None, tuple(str(label) for label in classes.tolist()))


def _read_part(images: Any, labels: Any) -> tuple[Tensor, np.ndarray]:
    pixels, names = convert_images(images), np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if names.ndim != 1 or names.dtype.kind not in "iuU":
        raise ValueError(
            f"data: labels must be whole numbers or text of shape (N,); these are {names.dtype} {names.shape}"
        )
    if not len(pixels) == len(names) > 0:
        raise ValueError(f"data: {len(pixels)} images and {len(names)} labels: must be as many, and at least one")
    return pixels, names


def convert_images(images: Any) -> Tensor:
    """Images as uint8 (N, C, H, W).

    Args:
        images: uint8 or, in 0…1, floating point; N×H×W, N×H×W×C or N×C×H×W.

    Raises:
        ValueError: another type or shape, values outside 0…1, or an axis of channels that is not clear.
    """
    found = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if found.ndim == 3:
        found = found[:, None]
    elif found.ndim == 4:
        first, last = (1 <= found.shape[axis] <= MOST_CHANNELS for axis in (1, 3))
        if first == last:
            why = "either axis could be that of the channels" if first else "no axis of at most 4 channels"
            raise ValueError(f"images of shape {found.shape}: must be {SHAPES}; there is {why}")
        found = found.transpose(0, 3, 1, 2) if last else found
    else:
        raise ValueError(f"images of shape {found.shape}: must be {SHAPES}")
    if found.dtype.kind == "f":
        low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"images of {found.dtype} must lie in 0…1, and these reach from {low:g} to {high:g}: scale them, or "
                "give uint8 in 0…255"
            )
        found = np.rint(found * 255).astype(np.uint8)
    elif found.dtype != np.uint8:
        raise ValueError(f"images of {found.dtype}: must be uint8 in 0…255, or floating point in 0…1")
    if 0 in found.shape[1:]:
        raise ValueError(f"images of shape {found.shape}: must have pixels")
    return torch.from_numpy(np.array(found, order="C"))  # a copy: the program may change its own
