"""Checkpoints: one safetensors file each, with a JSON record and its own SHA-256 inside. None can carry code.

`NAME.safetensors` holds tensors `model.<name>`, `ema.<name>`, `optimizer.<parameter>.<field>`, `epoch.<name>` and
`rng.<device>`. Its metadata has one entry, `cnnbench`: a JSON object with the record of `State` and, first of all,
`sha256`, the hash of the whole file with those 64 digits as zeros. Files are replaced in one step.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cnnbench.storage.atomic import NoneReadable, link, open_folder, write_atomically
from cnnbench.storage.regular import read_bytes
from cnnbench.training.torch_optimizers import Optimizer

log = logging.getLogger("cnnbench")
BEST, LAST, PREVIOUS = "best", "last", "previous"
ENTRY = "cnnbench"
LARGEST = 2**34  # bytes of a file
LARGEST_HEADER = 100 * 2**20  # bytes; safetensors accepts no more
ZEROS = b"0" * 64
WRAPPERS = ("_orig_mod.", "module.")  # torch.compile and DataParallel add them to every name of a module they wrap
Loaded = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and record


def locate(folder: Path, name: str) -> Path:
    """The file of a checkpoint."""
    return folder / f"{name}.safetensors"


def save(folder: Path, name: str, *, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a checkpoint. An earlier one of this name is kept until the new one is on the disk.

    Args:
        record: JSON values: the position in the run, and how to build the model and prepare its images.

    Raises:
        OSError: it could not be written; the earlier one is intact.
    """
    stored = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps({"sha256": ZEROS.decode(), **record})
    content = safetensors.torch.save(stored, metadata={ENTRY: text})
    at = content.index(ZEROS)  # the first ones in the file: the record begins with its hash
    digest = hashlib.sha256(content).hexdigest().encode()
    with open_folder(folder) as inside, write_atomically(locate(inside, name)) as file:
        # Views, because a copy would need the memory of the whole checkpoint again.
        for part in (memoryview(content)[:at], digest, memoryview(content)[at + len(ZEROS) :]):
            file.write(part)


def load(folder: Path, name: str) -> Loaded:
    """Read a checkpoint's tensors and its record.

    Raises:
        ValueError: the file is missing or damaged.
    """
    path = locate(folder, name)
    try:
        with open_folder(folder) as inside:
            content = read_bytes(locate(inside, name), LARGEST)
    except OSError as error:
        raise ValueError(f"no checkpoint {name!r} in {str(folder)!r}: {error.strerror}") from None
    return parse(content, path)


def is_own(content: bytes) -> bool:
    """Whether the content of a safetensors file claims to be a checkpoint."""
    return ENTRY in _read_metadata(content)


def parse(content: bytes, path: Path) -> Loaded:
    """The tensors and the record of a checkpoint, from the content of its file.

    Raises:
        ValueError: the file is damaged.
    """
    record = _read_record(content)
    if record is None:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one it records")
    try:
        return safetensors.torch.load(content), record
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _read_record(content: bytes) -> dict[str, Any] | None:
    """The record of a file, without its hash; None if the hash is wrong."""
    try:
        record = json.loads(_read_metadata(content)[ENTRY])
        digest = record.pop("sha256").encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    at = content.find(digest)
    if len(digest) != len(ZEROS) or at < 0:
        return None
    found = hashlib.sha256(memoryview(content)[:at])
    found.update(ZEROS)
    found.update(memoryview(content)[at + len(ZEROS) :])
    return record if found.hexdigest().encode() == digest else None


def _read_metadata(content: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file; empty if there are none, or if it is another kind of file."""
    length = int.from_bytes(content[:8], "little")  # of the JSON header that follows
    if length > min(len(content) - 8, LARGEST_HEADER):
        return {}
    try:
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def load_newest(folder: Path, *, accept: Callable[[Mapping[str, Any]], None] = lambda _: None) -> Loaded | None:
    """The last checkpoint or, if it is damaged, the previous one; None if there is neither.

    Args:
        accept: raises ValueError for a record that must not be resumed.

    Raises:
        NoneReadable: there are checkpoints, and none can be read.
    """
    names = [name for name in (LAST, PREVIOUS) if locate(folder, name).exists()]
    problems = []
    for name in names:
        try:
            loaded = load(folder, name)
        except ValueError as error:
            problems.append(str(error))
            log.error("DAMAGED CHECKPOINT: %s", error)
            continue
        accept(loaded[1])  # before anything is replaced
        if name != LAST:
            log.error("continuing from %s, the checkpoint before the last", locate(folder, name))
            # Otherwise the next save would turn the damaged checkpoint into the previous one.
            _link(folder, name, LAST, move=False)
        return loaded
    if problems:
        raise NoneReadable(f"no checkpoint can be read: {'; '.join(problems)}")
    return None


def keep_previous(folder: Path) -> None:
    """Make the last checkpoint also the previous one, before a new last one is written."""
    if locate(folder, LAST).exists():
        _link(folder, LAST, PREVIOUS)  # without hard links, it is moved: there is a good one all the same


def keep_epoch(folder: Path, epoch: int, keep: int) -> None:
    """Make the last checkpoint also that of its epoch, and remove all but those of the latest `keep` epochs."""
    if keep:
        _link(folder, LAST, f"epoch_{epoch:04d}", move=False)
    with open_folder(folder) as inside:
        numbers = {path: path.stem.removeprefix("epoch_") for path in inside.glob("epoch_*.safetensors")}
        kept = [path for path, number in numbers.items() if number.isdecimal()]
        # By number: from epoch 10,000 on, names are no longer in order. With keep=0, all of them go.
        for path in sorted(kept, key=lambda path: int(numbers[path]))[: -keep or None]:
            path.unlink()


def _link(folder: Path, name: str, other: str, *, move: bool = True) -> None:
    with open_folder(folder) as inside:
        link(locate(inside, name), locate(inside, other), move=move)


def strip_wrappers(name: str) -> str:
    """A parameter's name without the prefixes of wrappers such as torch.compile."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def collect_model_tensors(model: nn.Module, prefix: str = "model") -> dict[str, Tensor]:
    """A model's parameters and buffers as `<prefix>.<name>`."""
    return {f"{prefix}.{strip_wrappers(name)}": value for name, value in model.state_dict().items()}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "model") -> None:
    """Load a checkpoint's weights into a model.

    Raises:
        ValueError: names or shapes differ from the model's; the message gives the first difference.
    """
    start = f"{prefix}."
    weights = {
        strip_wrappers(key.removeprefix(start)): value for key, value in tensors.items() if key.startswith(start)
    }
    own = model.state_dict()
    names = {strip_wrappers(name): name for name in own}
    for name in sorted(names.keys() ^ weights.keys()):
        raise ValueError(f"the checkpoint does not fit the model: {name!r} is in only one of them")
    for name, value in weights.items():
        here, there = tuple(own[names[name]].shape), tuple(value.shape)
        if here != there:
            raise ValueError(
                f"the checkpoint does not fit the model: {name!r} has shape {there}, and {here} in the model"
            )
    model.load_state_dict({names[name]: value for name, value in weights.items()})


def collect_optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """An optimizer's state as `optimizer.<parameter>.<field>`; empty before its first step."""
    names: dict[Tensor, str] = {parameter: strip_wrappers(name) for name, parameter in model.named_parameters()}
    return {
        f"optimizer.{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's optimizer state into an optimizer over the same model.

    Raises:
        ValueError: the state names a parameter that the model does not have.
    """
    parameters = {strip_wrappers(name): parameter for name, parameter in model.named_parameters()}
    for key, value in tensors.items():
        if not key.startswith("optimizer."):
            continue
        name, _, field = key.removeprefix("optimizer.").rpartition(".")
        if name not in parameters:
            raise ValueError(f"the checkpoint's optimizer state names {name!r}, which the model does not have")
        parameter = parameters[name]
        # Adam counts steps in a scalar; all else has its parameter's shape and layout (channels-last).
        like_parameter = value.shape == parameter.shape and value.ndim > 0
        target = torch.empty_like(parameter).copy_(value) if like_parameter else value.to(parameter.device)
        optimizer.state[parameter][field] = target.detach()
