"""Parameters, multiply-accumulates, memory, depth and receptive field, from the forward pass of one image.

The pass runs on the model's own device: of a model on the meta device, only shapes are computed. It watches the torch
functions that a model calls, not only its modules, and therefore also sees `F.max_pool2d` and a sum of branches.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from cnnbench.analysis import tensor_rules, window_rules  # noqa: F401  (importing them registers the rules)
from cnnbench.analysis.operations import Window, call_and_count, compute_effect, find_tensors, get_field, set_field
from cnnbench.analysis.receptive_field import Field

FLOAT32 = 4  # bytes


@dataclass
class Layer:
    """One row of a summary: a module that computes something itself, and not only through its submodules."""

    name: str
    kind: str
    output_shape: tuple[int, ...] = ()  # for one image; empty if a trained model does not run it (auxiliary heads)
    window: Window | None = None  # of a convolution or pooling
    parameters: int = 0  # those that it reads; a shared weight counts in the first module that reads it
    macs: int = 0  # multiply-accumulates for one image, without bias additions and activations
    receptive_field: tuple[int, ...] = ()  # pixels of the image that one output sees, along each axis
    jump: tuple[float, ...] = ()  # pixels of the image between two neighbouring outputs


@dataclass
class Summary:
    """A model's layers and their totals."""

    input_shape: tuple[int, ...]  # of one image or signal
    parameters: int
    frozen_parameters: int  # those that training does not change, because they need no gradient
    dense_parameters: int  # of dense layers (`nn.Linear`)
    weight_bytes: int  # of all parameters as they are stored
    macs: int  # multiply-accumulates for one image
    flops: int  # two per multiply-accumulate
    activation_bytes: int  # of the outputs of all layers for one image, in float32
    depth: int  # layers with weights on the longest path
    # Of the last convolution or pooling before a head looks at everything; without either, the whole image.
    receptive_field: tuple[int, ...]
    layers: list[Layer] = field(default_factory=list)

    @property
    def dense_share(self) -> float:
        """The part of the parameters that belongs to dense layers."""
        return self.dense_parameters / max(self.parameters, 1)


def summarize(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Describe a model for one image.

    Args:
        model: on any device; it runs in eval mode and is left as it was.
        input_shape: (C, H, W), or (C, L) for a signal.
    """
    parameters = dict(model.named_parameters())
    watch, output = _run(model, input_shape)
    layers = watch.layers + watch.list_unused(model)
    end = get_field(find_tensors(output)[0]) or Field()
    macs = sum(layer.macs for layer in layers)
    dense = {p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
    return Summary(
        input_shape=tuple(input_shape),
        parameters=_count(parameters.values()),
        frozen_parameters=_count(p for p in parameters.values() if not p.requires_grad),
        dense_parameters=_count(dense),
        weight_bytes=sum(p.numel() * p.element_size() for p in parameters.values()),
        macs=macs,
        flops=2 * macs,
        activation_bytes=sum(FLOAT32 * math.prod(layer.output_shape) for layer in layers if layer.output_shape),
        depth=end.depth,
        receptive_field=tuple(axis.size for axis in end.last_window or ()) or tuple(input_shape[1:]),
        layers=layers,
    )


def trace_fields(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Field]:
    """What the output of each module sees of the image, by the module's name; arguments as for `summarize`."""
    watch, _ = _run(model, input_shape)
    return watch.fields


def _run(model: nn.Module, input_shape: Sequence[int]) -> tuple["_Watch", Any]:
    """Watch the forward pass of one image of zeros; also returns the model's output."""
    parameters = dict(model.named_parameters())
    watch = _Watch({id(value): (name, value.numel()) for name, value in parameters.items()})
    was_training = model.training
    hooks = watch.listen_to(model)
    try:
        model.eval()
        weight = next(iter(parameters.values()), torch.empty(0))
        image = weight.new_zeros(1, *input_shape)
        set_field(image, Field.of_image(input_shape[1:]))
        with watch, torch.no_grad():
            return watch, model(image)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


@dataclass
class _Work:
    """What a running module has done itself, not counting its submodules."""

    parameters: int = 0
    macs: int = 0
    windows: list[Window] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    """Follows a forward pass: a row for each module that computes something, a `Field` for every tensor.

    Args:
        unread: name and size of the parameters that no function has read yet, by their id.
    """

    def __init__(self, unread: dict[int, tuple[str, int]]) -> None:
        super().__init__()
        self.unread = unread
        self.layers: list[Layer] = []
        self.fields: dict[str, Field] = {}
        self.running: list[_Work] = []  # of the module that runs now, and of those around it

    def listen_to(self, model: nn.Module) -> list[RemovableHandle]:
        """Hook into every module; the handles undo it."""
        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_: self.running.append(_Work())))
            hooks.append(module.register_forward_hook(lambda m, _, output, name=name: self._end(name, m, output)))
        return hooks

    def list_unused(self, model: nn.Module) -> list[Layer]:
        """A row for each module with parameters that nothing has read."""
        rows: dict[str, Layer] = {}
        for name, size in self.unread.values():
            module = name.rpartition(".")[0]
            row = rows.setdefault(module, Layer(module, type(model.get_submodule(module)).__name__))
            row.parameters += size
        return list(rows.values())

    def _end(self, name: str, module: nn.Module, output: Any) -> None:
        work = self.running.pop()
        # A leaf has a row even if nothing of it is counted; a container only if its own forward computes something.
        is_leaf = not any(module.children()) and not isinstance(module, nn.Identity | nn.Sequential)
        outputs = find_tensors(output)
        if outputs and (seen := get_field(outputs[0])):
            self.fields[name] = seen
        if not outputs or not (is_leaf or work.parameters or work.macs or work.windows):
            return
        seen = get_field(outputs[0]) or Field()
        self.layers.append(
            Layer(
                name=name or "(model)",
                kind=type(module).__name__,
                output_shape=tuple(outputs[0].shape[1:]),
                window=work.windows[0] if len(work.windows) == 1 else None,
                parameters=work.parameters,
                macs=work.macs,
                receptive_field=seen.size,
                jump=seen.jump,
            )
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output, macs = call_and_count(func, args, kwargs)
        inputs, outputs = find_tensors((args, kwargs)), find_tensors(output)
        if not outputs or not self.running:  # reads a shape
            return output
        work = self.running[-1]
        # Popped, so that a weight that two modules share counts once.
        work.parameters += sum(self.unread.pop(id(tensor))[1] for tensor in inputs if id(tensor) in self.unread)
        effect = compute_effect(func, args, kwargs, outputs[0])
        work.macs += macs + effect.macs
        if effect.window:
            work.windows.append(effect.window)
        if any(get_field(tensor) for tensor in inputs):
            for tensor in outputs:
                set_field(tensor, effect.field.end_window() if effect.window else effect.field)
        return output
