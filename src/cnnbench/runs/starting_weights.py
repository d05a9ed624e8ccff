"""The weights that a run starts from, `model.weights`: where they are, and their hash."""

import functools
import hashlib
import os
from pathlib import Path

from cnnbench.config.schema import Config
from cnnbench.registry import find_nearest
from cnnbench.runs.folder import BEST_WEIGHTS, RunFolder
from cnnbench.storage.regular import Refused, read_regular

TORCHVISION = "torchvision"  # in place of a path: the weights that torchvision publishes
LARGEST = 2**32  # bytes of a file
ACCEPTED = "a safetensors file, a state dict of torch, the folder of a run, or torchvision"
SHOWN_DIGITS = 12


def pin_weights(config: Config) -> None:
    """Set `model.weights_sha256` to the hash of the weights, which is null without weights.

    Raises:
        ValueError: there are no such weights, or the key has the hash of others.
    """
    model = config.model
    # A path says nothing of what it holds: by the hash, other weights make another run for resume, sweep and report.
    if model.weights is None:
        model.weights_sha256 = None
        return
    if model.weights == TORCHVISION:
        from cnnbench.models.torchvision_net import find_torchvision_weights  # imports torch, which takes a second

        if model.name != TORCHVISION:
            raise ValueError(f"model.weights=torchvision needs model=torchvision, and the model is {model.name}")
        found = find_torchvision_weights(str(model.options.get("arch"))).sha256
    else:
        found = hash_file(locate_weights(model.weights), model.weights)
    refuse_other_weights(config, found)
    # Of weights to download, only the first digits are known.
    model.weights_sha256 = max(found, model.weights_sha256 or "", key=len)


def locate_weights(name: str) -> Path:
    """The file of the weights; of a run's folder, its best checkpoint.

    Raises:
        ValueError: neither a file nor a run's folder; the message has the nearest name.
    """
    path = Path(name)
    if path.is_dir():
        try:
            return RunFolder.open_existing(path).path / BEST_WEIGHTS
        except ValueError as error:
            raise ValueError(f"model.weights={name}: {error}") from None
    if not os.path.lexists(path):
        beside = {str(path.with_name(other)) for other in _list_names(path.parent)} | {TORCHVISION}
        near = find_nearest(name, beside)
        hint = f" Did you mean {near!r}?" if near else ""
        raise ValueError(f"model.weights={name}: there is no such file or folder: must be {ACCEPTED}.{hint}")
    return path


def read_weights_file(path: Path, name: str) -> bytes:
    """The content of a file of weights.

    Raises:
        ValueError: not a regular file, too large, or unreadable.
    """
    try:
        return read_regular(path, LARGEST)
    except Refused as error:
        inside = f" ({path.name})" if path != Path(name) else ""
        raise ValueError(f"model.weights={name} cannot be read{inside}: {error}") from None


def hash_file(path: Path, name: str) -> str:
    """The SHA-256 of a file of weights.

    Raises:
        ValueError: as `read_weights_file`.
    """
    # The jobs of a sweep read an unchanged file once.
    try:
        found = path.stat()
        state = (found.st_size, found.st_mtime_ns, found.st_ino)
    except OSError:
        state = (0, 0, 0)
    return _hash_content(path, name, state)


# `state` tells one content of a file from the next.
@functools.lru_cache(maxsize=64)
def _hash_content(path: Path, name: str, state: tuple[int, ...]) -> str:
    return hashlib.sha256(read_weights_file(path, name)).hexdigest()


def refuse_other_weights(config: Config, found: str) -> None:
    """Check that weights are those that `model.weights_sha256` names, if it names any.

    Args:
        found: their SHA-256, or its first digits.

    Raises:
        ValueError: they are others.
    """
    wanted = config.model.weights_sha256
    if wanted is not None and not (found.startswith(wanted) or wanted.startswith(found)):
        raise ValueError(
            f"model.weights={config.model.weights} holds other weights than those of this run: their SHA-256 is "
            f"{found[:SHOWN_DIGITS]}…, and model.weights_sha256={wanted[:SHOWN_DIGITS]}…"
        )


def find_missing_weights(config: Config) -> str:
    """Why the weights that a config starts from are not here; empty if they are, or if it names none."""
    if config.model.weights in (None, TORCHVISION):
        return ""
    try:
        refuse_other_weights(config, hash_file(locate_weights(str(config.model.weights)), str(config.model.weights)))
    except ValueError as error:
        return str(error)
    return ""


def _list_names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
