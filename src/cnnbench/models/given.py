"""A network that a Python program has made. A run of it keeps the name of its class and its weights, but no code."""

import copy
import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from cnnbench.config.keys import Options, key
from cnnbench.models.shapes import format_shape
from cnnbench.models.spec import NetworkSpec
from cnnbench.registry import register
from cnnbench.storage.text import get_first_line

NAME = "module"  # of this model in a config
# Not a global: runs that are trained together take turns, each in its own context.
_given: ContextVar[nn.Module | None] = ContextVar("_given", default=None)


class GivenOptions(Options):
    """What a run records of the network."""

    class_name: str = key("Its class, with the module")
    source_sha256: str | None = key("The SHA-256 of the source of the class; null if there is none")
    state_sha256: str = key("The SHA-256 of its parameters and buffers before training")


@contextmanager
def give_module(module: nn.Module | None) -> Iterator[None]:
    """Inside this context, `model=module` builds a copy of `module`; with None it is refused."""
    token = _given.set(module)
    try:
        yield
    finally:
        _given.reset(token)


def describe_module(module: Any) -> dict[str, Any]:
    """The config of the model: its name and `GivenOptions`.

    Raises:
        ValueError: it is no module, or has parameters without a shape yet.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"model={str(module)[:60]}: must be a model's name or a torch module")
    if any(isinstance(value, UninitializedParameter) for value in module.parameters()):
        raise ValueError(
            f"model={_name(module)} has lazy layers, whose parameters have no shape yet: call it once on a batch of "
            "images before you pass it"
        )
    return {
        "name": NAME,
        "class_name": _name(module),
        "source_sha256": _hash_source(type(module)),
        "state_sha256": _hash_state(module.state_dict()),
    }


def build_module(spec: NetworkSpec, options: GivenOptions) -> nn.Module:
    """A copy of the network of `give_module`.

    Raises:
        ValueError: no network is given, it does not take the data, or a setting does not apply to it.
    """
    module, name = _given.get(), options.class_name
    if module is None:
        raise ValueError(
            f"model={NAME}: the network of this run, {name}, was an object of a Python program, and the folder holds "
            "its weights but not its code: pass it again from Python, as in cnnbench.load(RUN).network(model=…)"
        )
    spec.require_defaults("width", "depth", "activation", "dropout")
    device = torch.get_default_device()  # that of `build_model`
    # An operation without a shape rule would fail on the meta device.
    place = torch.device("cpu") if device.type == "meta" else device
    try:
        model = copy.deepcopy(module).to(place)  # training leaves the program's own as it is
        with place:
            _check_outputs(model, spec, _name(module))
        return model.to(device).train()
    except RuntimeError as error:
        raise ValueError(f"model={name} cannot be copied: {get_first_line(error)}") from error


def _check_outputs(model: nn.Module, spec: NetworkSpec, name: str) -> None:
    shape = format_shape(spec.input_shape)
    try:
        with torch.no_grad():
            outputs = model.eval()(torch.zeros(2, *spec.input_shape))
    except Exception as error:  # a stranger's code raises anything
        raise ValueError(f"model={name} cannot take images of {shape}: {get_first_line(error)}") from error
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    if not several or not all(isinstance(one, Tensor) for one in several):
        raise ValueError(
            f"model={name} gives {type(outputs).__name__} for images: must be a tensor, or several, of which the first "
            "has the logits"
        )
    found = tuple(several[0].shape)
    if found != (2, spec.num_classes) and getattr(model, "task", "classification") == "classification":
        raise ValueError(
            f"model={name} gives outputs of shape {found} for 2 images of {shape}: must be (2, {spec.num_classes}), a "
            "logit for each class"
        )


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _hash_source(kind: type) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):  # typed at a prompt, or made by code
        return None


def _hash_state(state: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in state.items():
        content = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        found.update(content.flatten().view(torch.uint8).numpy().tobytes())  # bytes, because numpy has no bfloat16
    return found.hexdigest()


# By a call: the options of parts that are registered by a decorator are keys of every config.
register("model", NAME, listed=False, dimensions=(1, 2))(build_module)
