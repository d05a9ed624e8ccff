"""Rules for what reads a window around each output: convolution, pooling, padding, resizing."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.analysis.operations import Effect, Window, rule
from cnnbench.analysis.receptive_field import Field, Reading, adaptive_window, resizing, transposed_window, window

CONVOLUTION = "input weight bias stride padding dilation groups"
TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
MAX_POOL = "input kernel_size stride padding dilation"
AVG_POOL = "input kernel_size stride padding"
NEIGHBOURS = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


@rule(CONVOLUTION, torch.conv1d, torch.conv2d, torch.conv3d)
def _convolution(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    weight = given["weight"]
    kernel = tuple(weight.shape[2:])
    stride, dilation = (_each(given.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    padding = given.get("padding", 0)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    shape = Window(
        kernel, stride, _each(0 if padding == "valid" else padding, len(kernel)), dilation, given.get("groups", 1)
    )
    after = field.read(_readings(window, kernel, shape.stride, shape.padding, shape.dilation)).deeper()
    return Effect(after, output.numel() * math.prod(weight.shape[1:]), shape)


@rule(TRANSPOSED, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def _transposed_convolution(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    weight = given["weight"]
    kernel = tuple(weight.shape[2:])
    stride, padding, dilation = (
        _each(given.get(name, default), len(kernel))
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    after = field.read(_readings(transposed_window, kernel, stride, padding, dilation)).deeper()
    macs = given["input"].numel() * math.prod(weight.shape[1:])
    return Effect(after, macs, Window(kernel, stride, padding, dilation, given.get("groups", 1)))


@rule(MAX_POOL, F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
@rule(MAX_POOL, F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)
@rule(AVG_POOL, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
@rule("input norm_type kernel_size stride", F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
def _pooling(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    axes = output.dim() - 2
    kernel = _each(given["kernel_size"], axes)
    stride = _each(given.get("stride") or kernel, axes)
    padding, dilation = _each(given.get("padding", 0), axes), _each(given.get("dilation", 1), axes)
    after = field.read(_readings(window, kernel, stride, padding, dilation))
    return Effect(after, window=Window(kernel, stride, padding, dilation))


@rule("input output_size", F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
@rule("input output_size", F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def _adaptive_pooling(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    axes = output.dim() - 2
    inputs, outputs = given["input"].shape[-axes:], output.shape[-axes:]
    over_all = {i - axes for i in range(axes) if outputs[i] == 1 < inputs[i]}
    windows = {
        dim: reading for dim, reading in _readings(adaptive_window, inputs, outputs).items() if dim not in over_all
    }
    after = field.mixed(over_all).read(windows) if over_all else field.read(windows)
    if over_all:
        return Effect(after)
    kernel = tuple(max(len(list(r.positions(o))) for o in range(r.outputs)) for r in windows.values())
    stride = tuple(n // m for n, m in zip(inputs, outputs, strict=True))
    return Effect(after, window=Window(kernel, stride, (0,) * axes, (1,) * axes))


@rule("input pad", F.pad)
def _padding(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    """Positions before the first; a negative number of them crops."""
    before = {-1 - i: count for i, count in enumerate(given["pad"][::2])}
    readings = {dim: window(1, 1, count) for dim, count in before.items() if count and dim in field.dims}
    return Effect(field.read(readings))


@rule("input size scale_factor mode align_corners", F.interpolate, F.upsample)
def _interpolation(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    axes, mode = output.dim() - 2, given.get("mode", "nearest")
    readings = {}
    for dim in range(-axes, 0):
        sizes = given["input"].shape[dim], output.shape[dim]
        readings[dim] = (
            adaptive_window(*sizes)
            if mode == "area"
            else resizing(
                *sizes,
                neighbours=NEIGHBOURS[mode],
                centred=mode != "nearest",
                align_corners=bool(given.get("align_corners")),
            )
        )
    return Effect(field.read(readings))


@rule("input factor", F.pixel_shuffle)
def _pixel_shuffle(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    factor = output.shape[-1] // given["input"].shape[-1]
    return Effect(field.read(_readings(transposed_window, (factor,) * 2, (factor,) * 2)))


@rule("input factor", F.pixel_unshuffle)
def _pixel_unshuffle(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    factor = given["input"].shape[-1] // output.shape[-1]
    return Effect(field.read(_readings(window, (factor,) * 2, (factor,) * 2)))


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """An option that may be one number for all axes, as one for each."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(int(v) for v in values) * (axes if len(values) == 1 else 1)


def _readings(reading: Callable[..., Reading], *options: Sequence[Any]) -> dict[int, Reading]:
    """A reading for each of the last dimensions; each option has an entry for every one of them."""
    axes = len(options[0])
    return {i - axes: reading(*values) for i, values in enumerate(zip(*options, strict=True))}
