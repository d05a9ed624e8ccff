"""Checkpoints: weights and optimizer state as safetensors, the rest as JSON, each file known by its SHA-256.

`NAME.safetensors` holds tensors `model.<name>` and `optimizer.<parameter>.<field>`; `NAME.json` holds everything else
and the hash of the tensors. Neither can carry code. The JSON is replaced last and names its tensors, so that a reader
finds either the old pair or the new one, or sees that they do not belong together.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cnnbench import results


def save(folder: Path, name: str, *, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a checkpoint called `name`.

    Args:
        record: what JSON can hold: position, metrics, how to build the model and prepare its images.
    """
    content = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    results.write_bytes(folder / f"{name}.safetensors", content)
    results.write_json(folder / f"{name}.json", {**record, "sha256": digest})


def load(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint's tensors and its record.

    Raises:
        ValueError: a file is missing or damaged, or the two do not belong together; the message names it.
    """
    path = folder / f"{name}.safetensors"
    try:
        record = results.read_json(folder / f"{name}.json")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"no checkpoint {name!r} in {str(folder)!r}: {error.strerror}") from None
    if not isinstance(record, dict) or hashlib.sha256(content).hexdigest() != record.get("sha256"):
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one that {name}.json records")
    try:
        return safetensors.torch.load(content), record
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers as `model.<name>`."""
    return {f"model.{name}": value for name, value in model.state_dict().items()}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        ValueError: names or shapes are not the model's; the message names the first that is not.
    """
    weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    own = model.state_dict()
    for name in sorted(own.keys() ^ weights.keys()):
        raise ValueError(f"the checkpoint does not fit the model: {name!r} is in only one of them")
    for name, value in own.items():
        if value.shape != weights[name].shape:
            raise ValueError(
                f"the checkpoint does not fit the model: {name!r} is {tuple(weights[name].shape)} in it, "
                f"{tuple(value.shape)} in the model"
            )
    model.load_state_dict(weights)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """An optimizer's state as `optimizer.<parameter>.<field>`; nothing before its first step."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"optimizer.{names[parameter]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's optimizer state into an optimizer over the same model.

    Raises:
        ValueError: the state belongs to a parameter that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if not key.startswith("optimizer."):
            continue
        name, _, field = key.removeprefix("optimizer.").rpartition(".")
        if name not in parameters:
            raise ValueError(f"the checkpoint's optimizer state names {name!r}, which the model does not have")
        parameter = parameters[name]
        # The step count is a scalar that stays where the optimizer keeps it; the rest lies beside its parameter.
        like_parameter = value.shape == parameter.shape and value.ndim > 0
        target = torch.empty_like(parameter).copy_(value) if like_parameter else value.to(parameter.device)
        optimizer.state[parameter][field] = target.detach()
