"""Start a run from other weights: `model.weights`. `weights.json` records which tensors fitted."""

import hashlib
import io
import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cnnbench.config.schema import Config
from cnnbench.data import Dataset
from cnnbench.experiment.data_record import ImageRecord, find_seen, read_data, read_image_record
from cnnbench.models.torchvision_net import Published, find_torchvision_weights
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.starting_weights import (
    SHOWN_DIGITS,
    TORCHVISION,
    hash_file,
    locate_weights,
    read_weights_file,
    refuse_other_weights,
)
from cnnbench.storage.plain_data import write_json
from cnnbench.storage.text import get_first_line, join_some
from cnnbench.training import checkpoint
from cnnbench.training.transfer import Transfer, load_matching

log = logging.getLogger("cnnbench")
FILE = "weights.json"
PICKLED = (b"PK", b"\x80")  # how torch's files begin, in the current and in the legacy format
NESTED = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep a state dict
SHOWN = 4  # classes in a note
CLOSE = 0.05  # of two means or deviations of pixels from 0 to 1; those of two sets of photographs are closer


@dataclass(frozen=True)
class Start:
    """The weights that a run has started from."""

    source: str  # the value of `model.weights`
    sha256: str
    transfer: Transfer
    notes: list[str]  # warnings for the reader of the results, such as images that were scaled in another way

    def record(self, run: RunFolder) -> None:
        """Write and log what fitted."""
        plain = asdict(self.transfer)
        plain["other_shape"] = {
            name: {"weights": there, "network": here} for name, (there, here) in self.transfer.other_shape.items()
        }
        write_json(run.path / FILE, {"source": self.source, "sha256": self.sha256, **plain, "notes": self.notes})
        fitted = f"{len(self.transfer.fitted)} of {self.transfer.total} tensors"
        log.info("model.weights=%s: %s loaded (SHA-256 %s…)", self.source, fitted, self.sha256[:SHOWN_DIGITS])
        for line in self.transfer.describe():
            log.info("  %s", line)
        for note in self.notes:
            log.warning("model.weights: %s", note)


def load_starting_weights(config: Config, model: nn.Module, dataset: Dataset) -> Start | None:
    """Load the weights that `model.weights` names into a model; into one on the meta device only as a check.

    Raises:
        ValueError: the weights are missing, damaged, others than `model.weights_sha256` names, or do not fit at all.
    """
    source = config.model.weights
    if source is None:
        return None
    published = find_torchvision_weights(str(config.model.options.get("arch"))) if source == TORCHVISION else None
    path = _fetch(published, config) if published else locate_weights(source)
    content = read_weights_file(path, source)
    digest = hashlib.sha256(content).hexdigest()
    refuse_other_weights(config, digest)
    try:
        tensors, images = _parse(content, path)
        transfer = load_matching(model, tensors)
    except ValueError as error:
        raise ValueError(f"model.weights={source}: {error}") from None
    if published:
        images = ImageRecord(
            name="ImageNet",
            in_channels=len(published.mean),
            image_size=[published.side, published.side],
            class_names=published.class_names,
            mean=published.mean,
            std=published.std,
        )
    notes = [_explain_shape(name, *shapes, dataset) for name, shapes in transfer.other_shape.items()]
    notes += _compare_images(images, dataset) if images else []
    notes.append(_count_seen_images(Path(source), dataset))
    return Start(source, digest, transfer, [note for note in notes if note])


def settle_start(config: Config, run: RunFolder) -> Config:
    """The config to build a resumed run by, without `model.weights` if the run has a checkpoint.

    Raises:
        ValueError: there are other weights in their place now.
    """
    source = config.model.weights
    # A run that was killed before its first checkpoint still needs its first weights.
    if source is None or not any(run.checkpoints.glob("*.safetensors")):
        return config
    if source != TORCHVISION:
        try:
            found = hash_file(locate_weights(source), source)
        except ValueError as error:  # they may be gone, because the checkpoint holds all that is needed
            log.info("continuing from the checkpoint without the first weights: %s", error)
        else:
            refuse_other_weights(config, found)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": None})})


def _fetch(found: Published, config: Config) -> Path:
    """The file of torchvision's weights, which is downloaded if it is missing and `data.download` allows it."""
    if not found.path.exists():
        if not config.data.download:
            raise ValueError(
                f"model.weights=torchvision: {found.path} is missing, and data.download=false: set it to true, or put "
                f"the file of {found.url} there"
            )
        log.info("downloading %s", found.url)
        try:
            found.download()
        except (OSError, RuntimeError) as error:
            raise ValueError(f"model.weights=torchvision: {found.url} cannot be downloaded: {error}") from None
    return found.path


def _parse(content: bytes, path: Path) -> tuple[dict[str, Tensor], ImageRecord | None]:
    """The tensors of a file and, of a checkpoint of ours, what it records of its images."""
    if content.startswith(PICKLED):
        return _parse_state_dict(content), None
    if checkpoint.is_own(content):
        tensors, record = checkpoint.parse(content, path)
        images = read_image_record(record)
        # A run with a moving average was tested with the average, so its figures are those of these weights.
        prefix = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}, images
    try:
        return safetensors.torch.load(content), None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"neither a safetensors file nor a state dict of torch: {error}") from None


def _parse_state_dict(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, by name, possibly beside other values."""
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > len(content):  # torch compresses nothing, but a hostile file may
                raise ValueError(f"{len(content):,} bytes that expand to {size:,}")
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of any kind for a damaged or a hostile file
        reason = get_first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's message recommends weights_only=False
            reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise ValueError(f"torch cannot read it as a state dict (weights_only=True): {reason}") from None
    for key in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    named = loaded if isinstance(loaded, Mapping) else {}
    tensors = {str(name): value.detach() for name, value in named.items() if _is_plain(value)}
    if not tensors:
        raise ValueError(f"holds no state dict: must be tensors by name, and is a {type(loaded).__name__} without them")
    return tensors


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor that can be copied into a parameter."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
    )


def _explain_shape(name: str, there: list[int], here: list[int], dataset: Dataset) -> str:
    """Why a matrix has another shape, if it is the classifier's or the first layer's; otherwise empty."""
    if len(there) != len(here) or len(here) < 2:
        return ""
    classes, channels = dataset.info.num_classes, dataset.info.in_channels
    if there[1:] == here[1:] and here[0] == classes:
        return (
            f"{name}, the classifier, keeps its random values: it is for {there[0]} classes there, and the data have "
            f"{classes}"
        )
    if there[0] == here[0] and there[2:] == here[2:] and here[1] == channels:
        return (
            f"{name}, the first layer, keeps its random values: it reads {there[1]} channels there, and the images "
            f"have {channels}"
        )
    return ""


def _compare_images(images: ImageRecord, dataset: Dataset) -> list[str]:
    """Differences between the images that the weights were trained on and those of the run."""
    info, notes = dataset.info, []
    if images.info.size != info.size:
        there, here = ("×".join(map(str, size)) for size in (images.info.size, info.size))
        notes.append(f"they were trained on {there} pixels, and the run has {here} (data.image_size)")
    scales = [[*images.mean, *images.std], [*dataset.mean, *dataset.std]]
    if len(scales[0]) == len(scales[1]) and max(abs(a - b) for a, b in zip(*scales, strict=True)) > CLOSE:
        there, here = (
            f"{_format_numbers(mean)} and {_format_numbers(std)}"
            for mean, std in ((images.mean, images.std), (dataset.mean, dataset.std))
        )
        notes.append(
            f"their images were scaled by the mean and deviation {there}, and those of the run are by {here} "
            "(data.normalize)"
        )
    if len(images.class_names) == info.num_classes and [*images.class_names] != [*info.class_names]:
        notes.append(
            f"the classifier is loaded too, but its classes were {join_some(images.class_names, SHOWN)}; those of the "
            f"run are {join_some(info.class_names, SHOWN)}"
        )
    return notes


def _count_seen_images(source: Path, dataset: Dataset) -> str:
    """A note if test images are among those that the run, whose weights these are, was trained on; otherwise empty."""
    if not source.is_dir() or not len(dataset.test):
        return ""
    seen = int(find_seen(read_data(source), ("train", "val"), dataset.test).sum())
    if not seen:
        return ""
    return (
        f"{seen:,} of the {len(dataset.test):,} test images are among the images that they were trained on, so the "
        "accuracy is too high"
    )


def _format_numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
