"""The operations of ATen that the page can compute, and the layers that compute them.

`kernel` registers an operation in `KERNELS`; all others are refused by name. An operation that overwrites its input,
such as relu_, uses the entry of the one that does not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnbench.draw.layers import Graph, MissingKernel

Span = list[int]  # of a pooling: the first position, the one after the last, and the divisor of a mean


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        func: the operation.
        given: all its arguments, by their names in its schema.
        output: its return value.
    """

    graph: Graph
    func: Callable[..., Any]
    given: Mapping[str, Any]
    output: Any

    @property
    def image(self) -> Tensor:
        """The first argument."""
        return next(iter(self.given.values()))

    def refuse(self, what: str) -> MissingKernel:
        """The error for arguments that no kernel supports."""
        return MissingKernel(f"{self.func} with {what}", self.graph.module)

    def get_weights(self, name: str) -> Tensor | None:
        """An argument that must not depend on the image; None if the call does not have it."""
        weights = self.given[name]
        if weights is not None and self.graph.depends_on_image(weights):
            raise self.refuse(f"an argument {name} that depends on the image")
        return weights

    def add(self, kind: str, tensors: dict[str, Tensor | None] | None = None, **settings: Any) -> None:
        """Add a layer whose input is the first argument, and whose output is the first output."""
        output = self.output if isinstance(self.output, Tensor) else self.output[0]
        given = {name: tensor for name, tensor in (tensors or {}).items() if tensor is not None}
        self.graph.add(kind, [self.graph.find(self.image)], output, given, **settings)


Add = Callable[[Call], None]
KERNELS: dict[str, Add] = {}


def kernel(*names: str) -> Callable[[Add], Add]:
    """Register the function that adds the layers of some operations, named as in ATen."""

    def register(add: Add) -> Add:
        KERNELS.update(dict.fromkeys(names, add))
        return add

    return register


@kernel("convolution")
def _add_convolution(call: Call) -> None:
    if call.given["transposed"] or call.image.dim() != 4:
        raise call.refuse("transposed=True, or dimensions other than rows and columns")
    kernel_size = list(call.given["weight"].shape[2:])
    geometry = {name: _repeat(call.given[name]) for name in ("stride", "padding", "dilation")}
    call.add("conv", _get_scale_and_shift(call), kernel=kernel_size, groups=call.given["groups"], **geometry)


def _get_scale_and_shift(call: Call) -> dict[str, Tensor | None]:
    return {"weights": call.get_weights("weight"), "bias": call.get_weights("bias")}


@kernel("addmm")
def _add_biased_product(call: Call) -> None:
    given, bias = call.given, call.get_weights("self")
    if given["beta"] != 1 or given["alpha"] != 1 or bias is None:
        raise call.refuse("alpha or beta")
    product = replace(call, given={"self": given["mat1"], "mat2": given["mat2"]})
    _add_linear(product, bias.expand(given["mat2"].shape[1]))


@kernel("mm")
def _add_product(call: Call) -> None:
    _add_linear(call, None)


def _add_linear(call: Call, bias: Tensor | None) -> None:
    weights = call.get_weights("mat2")
    if len(call.image) != 1 or weights is None:
        raise call.refuse("several rows for one image")
    call.add("linear", {"weights": weights.T, "bias": bias})


@kernel("native_batch_norm")
def _add_batch_norm(call: Call) -> None:
    mean, variance, eps = call.get_weights("running_mean"), call.get_weights("running_var"), call.given["eps"]
    affine = _get_scale_and_shift(call)
    if call.given["training"] or mean is None or variance is None:
        # This is an instance norm, for which torch turns each channel of each image into a channel.
        call.add("group_norm", affine, groups=call.image.shape[1], eps=eps)
        return
    # In float64, because the scale is merged into earlier weights, which are then rounded once.
    scale = (variance.double() + eps).rsqrt()
    if affine["weights"] is not None:
        scale = scale * affine["weights"]
    shift = -mean.double() * scale
    call.add("affine", {"weights": scale, "bias": shift if affine["bias"] is None else shift + affine["bias"]})


@kernel("native_group_norm")
def _add_group_norm(call: Call) -> None:
    call.add("group_norm", _get_scale_and_shift(call), groups=call.given["group"], eps=call.given["eps"])


# The arguments of each activation that change what it computes.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "relu": (),
    "leaky_relu": ("negative_slope",),
    "tanh": (),
    "sigmoid": (),
    "silu": (),
    "elu": ("alpha", "scale", "input_scale"),
    "hardtanh": ("min_val", "max_val"),
    "sqrt": (),
    "rsqrt": (),
}


def _add_activation(call: Call, name: str) -> None:
    call.add("activation", function=name, values=[float(call.given[argument]) for argument in ACTIVATIONS[name]])


for _name in ACTIVATIONS:
    KERNELS[_name] = partial(_add_activation, name=_name)


@kernel("gelu")
def _add_gelu(call: Call) -> None:
    call.add("activation", function="gelu" if call.given["approximate"] == "none" else "gelu_tanh", values=[])


@kernel("pow")
def _add_square(call: Call) -> None:
    if call.given["exponent"] != 2:
        raise call.refuse(f"exponent {call.given['exponent']}")
    call.add("activation", function="square", values=[])


def _add_arithmetic(call: Call, name: str) -> None:
    """A sum, difference, product or quotient, with broadcasting; with a number, it is a scale and a shift."""
    left, right = call.given["self"], call.given["other"]
    if call.given.get("alpha", 1) != 1:
        raise call.refuse("alpha")
    if not isinstance(right, Tensor):
        one, nothing, number = torch.ones(1), torch.zeros(1), torch.tensor([float(right)], dtype=torch.float64)
        scale = {"mul": number, "div": 1 / number}.get(name, one)
        shift = {"add": number, "sub": -number}.get(name, nothing)
        call.add("affine", {"weights": scale, "bias": shift})
        return
    inputs = [call.graph.find(tensor, like=call.output) for tensor in (left, right)]
    call.graph.add(name, inputs, call.output)


for _name in ("add", "sub", "mul", "div"):
    KERNELS[_name] = partial(_add_arithmetic, name=_name)


@kernel("cat")
def _add_concatenation(call: Call) -> None:
    axis = call.given["dim"] % call.output.dim()
    inputs = [call.graph.find(tensor) for tensor in call.given["tensors"]]
    # The number of consecutive values that each input contributes to the output.
    lengths = [math.prod(tensor.shape[axis:]) for tensor in call.given["tensors"]]
    call.graph.add("concat", inputs, call.output, lengths=lengths)


@kernel("max_pool2d_with_indices")
def _add_max_pool(call: Call) -> None:
    _add_pool(call, "max_pool", dilation=call.given["dilation"])


@kernel("avg_pool2d")
def _add_average_pool(call: Call) -> None:
    if call.given["divisor_override"] is not None:
        raise call.refuse("divisor_override")
    _add_pool(call, "average_pool", counts_padding=call.given["count_include_pad"])


def _add_pool(call: Call, kind: str, dilation: Sequence[int] = (1,), counts_padding: bool = False) -> None:
    given, steps = call.given, _repeat(dilation)
    kernels = _repeat(given["kernel_size"])
    strides, paddings = _repeat(given["stride"] or kernels), _repeat(given["padding"])
    sizes = (call.output if isinstance(call.output, Tensor) else call.output[0]).shape[-2:]
    spans: list[list[Span]] = []
    # The windows are clipped to the image here, so that the kernel needs no padding.
    for axis, length in enumerate(call.image.shape[-2:]):
        spans.append([])
        for place in range(sizes[axis]):
            first = place * strides[axis] - paddings[axis]
            last = first + (kernels[axis] - 1) * steps[axis] + 1
            counted = min(last, length + paddings[axis]) - first
            while first < 0:
                first += steps[axis]
            last = min(last, length)
            spans[-1].append([first, last, counted if counts_padding else last - first])
    call.add(kind, rows=spans[0], columns=spans[1], steps=steps)


@kernel("_adaptive_avg_pool2d", "adaptive_max_pool2d")
def _add_adaptive_pool(call: Call) -> None:
    """The window of output o is the o-th part of the input, rounded outwards."""
    rows, columns = (
        [_make_span(o * length // size, -(-(o + 1) * length // size)) for o in range(size)]
        for length, size in zip(call.image.shape[-2:], call.given["output_size"], strict=True)
    )
    call.add("average_pool" if "avg" in str(call.func) else "max_pool", rows=rows, columns=columns, steps=[1, 1])


@kernel("mean")
def _add_mean(call: Call) -> None:
    """The mean over rows and columns, which is a pooling with one window."""
    axes = call.image.dim()
    if axes != 4 or {dim % axes for dim in call.given.get("dim") or ()} != {2, 3}:
        raise call.refuse("axes other than rows and columns")
    rows, columns = ([_make_span(0, length)] for length in call.image.shape[-2:])
    call.add("average_pool", rows=rows, columns=columns, steps=[1, 1])


def _make_span(first: int, last: int) -> Span:
    return [first, last, last - first]


@kernel("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "clone", "alias", "detach")
def _add_reshape(call: Call) -> None:
    call.add("reshape")


@kernel("constant_pad_nd")
def _add_padding(call: Call) -> None:
    # `pad` has (before, behind) of the last dimension, then of the one before it; negative numbers crop.
    axes, pad = call.image.dim(), call.given["pad"]
    offsets = []
    for axis, length in enumerate(call.image.shape):
        at, step = 2 * (axes - 1 - axis), math.prod(call.image.shape[axis + 1 :])
        before, behind = pad[at : at + 2] or (0, 0)
        places = range(-before, length + behind)
        offsets.append([place * step if 0 <= place < length else -1 for place in places])
    call.add("gather", offsets=offsets, fill=float(call.given["value"]))


@kernel("slice", "select", "permute", "transpose", "expand", "flip", "split", "split_with_sizes", "unbind")
@kernel("replication_pad2d", "reflection_pad2d", "upsample_nearest2d")
def _add_move(call: Call) -> None:
    """Any operation that only moves values."""
    # Applied to the indices of the values, the operation shows where each value comes from.
    source = call.graph.find(call.image)
    numbers = torch.arange(call.image.numel(), dtype=torch.float64).view(call.image.shape)
    names = call.func._schema.arguments  # type: ignore[attr-defined]
    positional = [numbers, *(call.given[one.name] for one in names[1:] if not one.kwarg_only)]
    moved = call.func(*positional)
    if isinstance(moved, Tensor):
        call.graph.add_gather(source, moved, call.output)
        return
    for places, output in zip(moved, call.output, strict=True):
        call.graph.add_gather(source, places, output)


def _repeat(values: int | Sequence[int]) -> list[int]:
    """A setting for rows and columns; a single one is for both."""
    values = [values] if isinstance(values, int) else [*values]
    return values * (2 if len(values) == 1 else 1)
