"""Parameters, multiply-accumulates, depth and receptive field, from one forward pass on the meta device.

The pass computes shapes only, so that no weight or activation is allocated. It watches the tensor functions a model
calls (not only its modules), and therefore sees `F.max_pool2d` and an addition of branches as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnbench.analysis.receptive_field import Field, merged

POOLS = {F.max_pool2d, torch.max_pool2d, F.avg_pool2d, torch._C._nn.avg_pool2d}
GLOBAL_POOLS = {F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.mean, Tensor.mean}
DENSE = {F.linear}


@dataclass
class Layer:
    """One row of a summary: a module without submodules.

    Attributes:
        output_shape: for one image.
        macs: multiply-accumulate operations for one image; bias additions and activations are not counted.
        receptive_field: pixels of the input that one output sees, along height and width.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[int, int]


@dataclass
class Summary:
    """A model's layers and their totals.

    Attributes:
        parameters: numbers that training changes.
        macs: for one image.
        depth: layers with weights on the longest path.
        receptive_field: of one output of the last convolution or pooling window, before a head looks at
            everything; the whole image for a model that has neither.
    """

    parameters: int
    macs: int
    depth: int
    receptive_field: tuple[int, int]
    layers: list[Layer] = field(default_factory=list)


def summarize(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Describe a model for one image.

    Args:
        input_shape: (C, H, W), or (C, L) for a signal.
        model: on any device; it is run on the meta device and left as it was.
    """
    layers: list[Layer] = []
    watch = _Watch((input_shape[1], input_shape[-1]))
    hooks = []
    names = {module: name for name, module in model.named_modules()}
    started: dict[nn.Module, int] = {}

    def before(module: nn.Module, _: Any) -> None:
        started[module] = watch.macs

    def after(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen = watch.field_of(output)
            parameters = sum(p.numel() for p in module.parameters())
            macs = watch.macs - started[module]
            shape = tuple(output.shape[1:])
            layers.append(Layer(names[module], type(module).__name__, shape, parameters, macs, seen.size))

    for module in model.modules():
        if not any(module.children()) and not isinstance(module, nn.Identity):
            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    was_training = model.training
    weights = {name: torch.empty_like(value, device="meta") for name, value in model.state_dict().items()}
    try:
        model.eval()
        with watch, torch.no_grad():
            image = torch.empty(1, *input_shape, device="meta")
            output = torch.func.functional_call(model, weights, (image,))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return Summary(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=watch.macs,
        depth=watch.field_of(output).depth,
        receptive_field=watch.last_window,
        layers=layers,
    )


class _Watch(TorchFunctionMode):
    """Counts multiply-accumulates and carries a `Field` from tensor to tensor during a forward pass."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size
        self.macs = 0
        self.last_window = self.image_size

    @staticmethod
    def field_of(tensor: Tensor) -> Field:
        return getattr(tensor, "_cnnbench_field", Field())

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            inputs = [self.field_of(tensor) for tensor in _tensors(args)]
            output._cnnbench_field = self._field_after(func, args, kwargs or {}, merged(inputs), output)  # type: ignore[attr-defined]
        return output

    def _field_after(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: Field,
        output: Tensor,
    ) -> Field:
        if func in (F.conv2d, torch.conv2d):
            weight = args[1]
            self.macs += output[0].numel() * weight[0].numel()
            options = _named(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, kwargs)
            after = before.through_window(
                tuple(weight.shape[-2:]),
                _pair(options.get("stride", 1)),
                _pair(options.get("dilation", 1)),
                True,
            )
        elif func in POOLS:
            options = _named(("input", "kernel_size", "stride", "padding"), args, kwargs)
            kernel = _pair(options["kernel_size"])
            after = before.through_window(kernel, _pair(options.get("stride") or kernel), (1, 1), False)
        elif func in DENSE:
            self.macs += output[0].numel() * args[1].shape[1]
            return before.over_everything(self.image_size, True)
        elif func in GLOBAL_POOLS:
            return before.over_everything(self.image_size, False)
        else:
            return before
        self.last_window = after.size
        return after


def _tensors(arguments: Any) -> list[Tensor]:
    if isinstance(arguments, Tensor):
        return [arguments]
    if isinstance(arguments, list | tuple):
        return [tensor for inner in arguments for tensor in _tensors(inner)]
    return []


def _named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return (int(values[0]), int(values[-1]))
