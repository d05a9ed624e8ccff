"""Rules for functions that read a window around each output: convolution, pooling, padding, resizing."""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.analysis.operations import Call, Effect, Window, rule
from cnnbench.analysis.receptive_field import Field, Reading

# How many inputs on either side of a place an interpolation reads.
NEIGHBOURS = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


@rule(torch.conv1d, torch.conv2d, torch.conv3d)
def _convolution(
    call: Call, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Effect:
    kernel = tuple(weight.shape[2:])
    if padding == "same":
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, _per_axis(dilation, len(kernel)), strict=True)]
    window = _window(kernel, stride, 0 if padding == "valid" else padding, dilation, groups)
    field = _read_window(call, _slide, window).deepen()
    return Effect(field, call.output.numel() * math.prod(weight.shape[1:]), window)


@rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def _transposed_convolution(
    call: Call,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Effect:
    window = _window(tuple(weight.shape[2:]), stride, padding, dilation, groups)
    field = _read_window(call, _spread, window).deepen()
    return Effect(field, call.input.numel() * math.prod(weight.shape[1:]), window)


@rule(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
@rule(F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)
def _max_pooling(
    call: Call, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any, **__: Any
) -> Effect:
    kernel = _per_axis(kernel_size, call.output.dim() - 2)
    window = _window(kernel, stride or kernel, padding, dilation)
    return Effect(_read_window(call, _slide, window), window=window)


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def _average_pooling(call: Call, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any) -> Effect:
    return _max_pooling(call, kernel_size, stride, padding)


@rule(F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
def _power_pooling(call: Call, norm_type: Any, kernel_size: Any, stride: Any = None, *_: Any, **__: Any) -> Effect:
    return _max_pooling(call, kernel_size, stride)


@rule(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
@rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def _adaptive_pooling(call: Call, *_: Any, **__: Any) -> Effect:
    axes = call.output.dim() - 2
    inputs, outputs = call.input.shape[-axes:], call.output.shape[-axes:]
    readings = _read_axes(_divide, inputs, outputs)
    # A single output is a mean over everything, as in a head, and no window.
    whole = {dim for dim in readings if call.output.shape[dim] == 1 < call.input.shape[dim]}
    if whole:
        return Effect(call.field.mix(whole).read({dim: r for dim, r in readings.items() if dim not in whole}))
    kernel = tuple(max(len(list(r.positions(o))) for o in range(r.outputs)) for r in readings.values())
    stride = tuple(n // m for n, m in zip(inputs, outputs, strict=True))
    return Effect(call.field.read(readings), window=_window(kernel, stride))


@rule(F.pad)
def _padding(call: Call, pad: Sequence[int], *_: Any, **__: Any) -> Effect:
    # `pad` has (before, behind) of the last dimension, then of the one before it; negative numbers crop.
    before = {-1 - i: count for i, count in enumerate(pad[::2])}
    return Effect(
        call.field.read({d: _slide(1, 1, count, 1) for d, count in before.items() if count and d in call.field.dims})
    )


@rule(F.interpolate, F.upsample)
def _interpolation(
    call: Call,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *_: Any,
    **__: Any,
) -> Effect:
    def reading(inputs: int, outputs: int) -> Reading:
        if mode == "area":
            return _divide(inputs, outputs)
        return _resize(inputs, outputs, NEIGHBOURS[mode], mode != "nearest", bool(align_corners))

    axes = call.output.dim() - 2
    return Effect(call.field.read(_read_axes(reading, call.input.shape[-axes:], call.output.shape[-axes:])))


@rule(F.pixel_shuffle)
def _pixel_shuffle(call: Call, upscale_factor: int) -> Effect:
    factors = (upscale_factor, upscale_factor)
    return Effect(_read_window(call, _spread, _window(factors, factors)))


@rule(F.pixel_unshuffle)
def _pixel_unshuffle(call: Call, downscale_factor: int) -> Effect:
    factors = (downscale_factor, downscale_factor)
    return Effect(_read_window(call, _slide, _window(factors, factors)))


def _slide(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """How a convolution or pooling reads; `padding` is what precedes the first position."""
    return Reading(lambda o: range(o * stride - padding, o * stride - padding + kernel * dilation, dilation), stride)


def _spread(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """How a transposed convolution reads: input i goes to the outputs i · stride − padding + dilation · tap."""

    def positions(output: int) -> list[int]:
        places = [output + padding - dilation * tap for tap in range(kernel)]
        return [place // stride for place in places if place % stride == 0]

    return Reading(positions, 1, stride)


def _divide(inputs: int, outputs: int) -> Reading:
    """How an adaptive pooling reads: output o takes the o-th part of the input, rounded outwards."""
    ratio = Fraction(inputs, outputs)
    return Reading(
        lambda o: range(math.floor(o * ratio), math.ceil((o + 1) * ratio)), ratio.numerator, ratio.denominator
    )


def _resize(inputs: int, outputs: int, neighbours: int, centred: bool, align_corners: bool) -> Reading:
    """How an interpolation reads.

    Args:
        neighbours: as in `NEIGHBOURS`.
        centred: whether positions are compared by their middles.
        align_corners: whether the first and last positions of both lie on each other.
    """
    corners = align_corners and inputs > 1 and outputs > 1
    ratio = Fraction(inputs - 1, outputs - 1) if corners else Fraction(inputs, outputs)
    offset = Fraction(1, 2) if centred and not corners else Fraction(0)

    def positions(output: int) -> Iterable[int]:
        if neighbours == 0:
            return [math.floor((output + offset) * ratio)]
        place = (output + offset) * ratio - offset
        if place.denominator == 1:
            return [int(place)]
        return range(math.floor(place) - neighbours + 1, math.floor(place) + neighbours + 1)

    return Reading(positions, ratio.numerator, ratio.denominator)


def _window(kernel: tuple[int, ...], stride: Any, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Window:
    stride, padding, dilation = (_per_axis(value, len(kernel)) for value in (stride, padding, dilation))
    return Window(kernel, stride, padding, dilation, groups)


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(int(v) for v in values) * (axes if len(values) == 1 else 1)


def _read_window(call: Call, reading: Callable[..., Reading], window: Window) -> Field:
    settings = window.kernel, window.stride, window.padding, window.dilation
    return call.field.read(_read_axes(reading, *settings))


def _read_axes(reading: Callable[..., Reading], *options: Sequence[int]) -> dict[int, Reading]:
    """A reading for each of the last dimensions; each option has an entry for every one of them."""
    return {i - len(options[0]): reading(*values) for i, values in enumerate(zip(*options, strict=True))}
