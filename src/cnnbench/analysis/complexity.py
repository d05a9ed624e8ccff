"""Parameters, multiply-accumulates, memory, depth and receptive field, from one forward pass on the meta device.

The pass computes shapes only, so that no weight or activation is allocated. It watches the tensor functions a model
calls (not only its modules), and therefore sees `F.max_pool2d` and an addition of branches as well.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnbench.analysis import tensor_rules, window_rules  # noqa: F401  (importing them fills the table of rules)
from cnnbench.analysis.operations import Window, effect_of, field_of, remember, tensors
from cnnbench.analysis.receptive_field import Field

FLOAT32 = 4  # bytes


@dataclass
class Layer:
    """One row of a summary: a module that computes something itself, rather than through its submodules alone.

    Attributes:
        output_shape: for one image; empty for a module that does not run when a trained model is used, such as a
            head that only training needs.
        window: kernel, stride, padding, dilation and groups of a convolution or pooling.
        parameters: those the module reads; a weight that several modules share counts in the first.
        macs: multiply-accumulate operations for one image; bias additions and activations are not counted.
        receptive_field: pixels of the input that one output sees, along each axis of the input.
        jump: pixels of the input between two neighbouring outputs.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    window: Window | None
    parameters: int
    macs: int
    receptive_field: tuple[int, ...]
    jump: tuple[float, ...]


@dataclass
class Summary:
    """A model's layers and their totals.

    Attributes:
        input_shape: of the image or signal it was described for.
        parameters: numbers that training changes.
        dense_parameters: those among them that belong to dense layers (`nn.Linear`).
        weight_bytes: of all parameters, as they are stored.
        macs: multiply-accumulates for one image.
        flops: two for each of them, a multiplication and an addition.
        activation_bytes: of the outputs of every listed layer for one image, in float32.
        depth: layers with weights on the longest path.
        receptive_field: of one output of the last convolution or pooling window, before a head looks at
            everything; the whole image for a model that has neither.
    """

    input_shape: tuple[int, ...]
    parameters: int
    dense_parameters: int
    weight_bytes: int
    macs: int
    flops: int
    activation_bytes: int
    depth: int
    receptive_field: tuple[int, ...]
    layers: list[Layer] = field(default_factory=list)

    @property
    def dense_share(self) -> float:
        """The part of the parameters that belongs to dense layers."""
        return self.dense_parameters / max(self.parameters, 1)


def summarize(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Describe a model for one image.

    Args:
        input_shape: (C, H, W), or (C, L) for a signal.
        model: on any device; it is run on the meta device in eval mode and left as it was.
    """
    parameters = dict(model.named_parameters())
    tensors_of_model = {**parameters, **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(value, device="meta") for name, value in tensors_of_model.items()}
    watch = _Watch({id(shapes[name]): name for name in parameters}, parameters)
    was_training = model.training
    hooks = watch.attached(model)
    try:
        model.eval()
        image = torch.empty(1, *input_shape, device="meta")
        remember(image, Field.of_input(input_shape[1:]))
        with watch, torch.no_grad():
            output = torch.func.functional_call(model, shapes, (image,))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    layers = watch.layers + watch.never_run(model)
    seen = field_of(tensors(output)[0]) or Field((), ())
    macs = sum(layer.macs for layer in layers)
    return Summary(
        input_shape=tuple(input_shape),
        parameters=sum(p.numel() for p in parameters.values() if p.requires_grad),
        dense_parameters=_dense_parameters(model),
        weight_bytes=sum(p.numel() * p.element_size() for p in parameters.values()),
        macs=macs,
        flops=2 * macs,
        activation_bytes=sum(FLOAT32 * math.prod(layer.output_shape) for layer in layers if layer.output_shape),
        depth=seen.depth,
        receptive_field=tuple(axis.size for axis in seen.last_window or ()) or tuple(input_shape[1:]),
        layers=layers,
    )


def _dense_parameters(model: nn.Module) -> int:
    dense = {p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
    return sum(p.numel() for p in dense if p.requires_grad)


@dataclass
class _Running:
    """What a module that runs has done so far, its submodules left out."""

    parameters: int = 0
    macs: int = 0
    windows: list[Window] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    """Follows a forward pass: a row for each module that does something, a `Field` for every tensor.

    Args:
        unread: the names of parameters that no function has read yet, by the identity of what stands for them.
    """

    def __init__(self, unread: dict[int, str], parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.unread = unread
        self.parameters = parameters
        self.layers: list[Layer] = []
        self.running: list[_Running] = []

    def attached(self, model: nn.Module) -> list[Any]:
        """Listen to every module; returns handles to remove."""
        hooks: list[Any] = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_: self.running.append(_Running())))
            hooks.append(module.register_forward_hook(lambda m, _, output, name=name: self._ended(name, m, output)))
        return hooks

    def never_run(self, model: nn.Module) -> list[Layer]:
        """A row for each module with parameters that nothing has read."""
        left: dict[str, int] = {}
        for name in self.unread.values():
            module = name.rpartition(".")[0]
            left[module] = left.get(module, 0) + self.parameters[name].numel()
        kinds = {name: type(model.get_submodule(name)).__name__ for name in left}
        return [Layer(name, kinds[name], (), None, count, 0, (), ()) for name, count in left.items()]

    def _ended(self, name: str, module: nn.Module, output: Any) -> None:
        done = self.running.pop()
        leaf = not any(module.children()) and not isinstance(module, nn.Identity | nn.Sequential)
        outputs = tensors(output)
        if not outputs or not (leaf or done.parameters or done.macs or done.windows):
            return
        seen = field_of(outputs[0]) or Field((), ())
        window = done.windows[0] if len(done.windows) == 1 else None
        self.layers.append(
            Layer(
                name=name or "(model)",
                kind=type(module).__name__,
                output_shape=tuple(outputs[0].shape[1:]),
                window=window,
                parameters=done.parameters,
                macs=done.macs,
                receptive_field=seen.size,
                jump=seen.jump,
            )
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        inputs, outputs = tensors((args, kwargs or {})), tensors(output)
        if not outputs or not self.running:  # a look at a shape, or torch exchanging the weights
            return output
        done = self.running[-1]
        done.parameters += sum(self.parameters[self.unread.pop(id(t))].numel() for t in inputs if id(t) in self.unread)
        effect = effect_of(func, args, kwargs or {}, outputs[0])
        done.macs += effect.macs
        if any(field_of(tensor) for tensor in inputs):
            for tensor in outputs:
                remember(tensor, effect.field.windowed() if effect.window else effect.field)
        if effect.window:
            done.windows.append(effect.window)
        return output
