"""Rules for functions that read a window around each output: convolution, pooling, padding, resizing."""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from cnnbench.analysis.operations import Call, Effect, Window, rule
from cnnbench.analysis.receptive_field import Field, Reading

# How many inputs on either side of a place an interpolation reads.
NEIGHBOURS = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}
CONV = "input weight bias stride padding dilation groups"
TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
MAX_POOL = "input kernel_size stride padding dilation"


@rule(CONV, torch.conv1d, torch.conv2d, torch.conv3d)
def _convolution(call: Call) -> Effect:
    window = _make_window(call)
    macs = call.output.numel() * call.given["weight"][0].numel()  # each output reads a filter, (C_in / groups, *kernel)
    return Effect(_read_window(call, _slide, window).deepen(), window, macs)


@rule(TRANSPOSED, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def _transposed_convolution(call: Call) -> Effect:
    window = _make_window(call)
    # Each input is spread by (C_out / groups, *kernel).
    macs = call.given["input"].numel() * call.given["weight"][0].numel()
    return Effect(_read_window(call, _spread, window).deepen(), window, macs)


@rule(MAX_POOL, F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
@rule(MAX_POOL, F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)
@rule("input kernel_size stride padding", F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
@rule("input norm_type kernel_size stride", F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
def _pooling(call: Call) -> Effect:
    window = _make_window(call)
    return Effect(_read_window(call, _slide, window), window)


@rule("input output_size", F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
@rule("input output_size", F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def _adaptive_pooling(call: Call) -> Effect:
    inputs, outputs = _read_sizes(call)
    readings = _read_axes(_divide, inputs, outputs)
    # A single output reads everything, as in a head, and is no window.
    whole = {dim for dim, before, after in zip(readings, inputs, outputs, strict=True) if after == 1 < before}
    if whole:
        return Effect(call.field.mix(whole).read({dim: r for dim, r in readings.items() if dim not in whole}))
    kernel = tuple(max(len(list(r.positions(o))) for o in range(r.outputs)) for r in readings.values())
    stride = tuple(before // after for before, after in zip(inputs, outputs, strict=True))
    axes = len(kernel)
    return Effect(call.field.read(readings), Window(kernel, stride, (0,) * axes, (1,) * axes))


@rule("input pad", F.pad)
def _padding(call: Call) -> Effect:
    # `pad` has (before, behind) of the last dimension, then of the one before it; negative numbers crop.
    before = {-1 - i: count for i, count in enumerate(call.given["pad"][::2])}
    shifts = {dim: _slide(1, 1, count, 1) for dim, count in before.items() if count and dim in call.field.dims}
    return Effect(call.field.read(shifts))


@rule("input size scale_factor mode align_corners", F.interpolate, F.upsample)
def _interpolation(call: Call) -> Effect:
    mode, align_corners = call.given.get("mode", "nearest"), bool(call.given.get("align_corners"))
    if mode == "area":
        return Effect(call.field.read(_read_axes(_divide, *_read_sizes(call))))
    resize = partial(_resize, neighbours=NEIGHBOURS[mode], centred=mode != "nearest", align_corners=align_corners)
    return Effect(call.field.read(_read_axes(resize, *_read_sizes(call))))


@rule("input upscale_factor", F.pixel_shuffle)
def _pixel_shuffle(call: Call) -> Effect:
    factors = (call.given["upscale_factor"],) * 2
    return Effect(_read_window(call, _spread, Window(factors, factors, (0, 0), (1, 1))))


@rule("input downscale_factor", F.pixel_unshuffle)
def _pixel_unshuffle(call: Call) -> Effect:
    factors = (call.given["downscale_factor"],) * 2
    return Effect(_read_window(call, _slide, Window(factors, factors, (0, 0), (1, 1))))


def _make_window(call: Call) -> Window:
    """The settings of a convolution or pooling, with torch's defaults."""
    given, axes = call.given, call.output.dim() - 2
    kernel = _repeat_per_axis(given["weight"].shape[2:] if "weight" in given else given["kernel_size"], axes)
    stride = _repeat_per_axis(given.get("stride") or (1 if "weight" in given else kernel), axes)
    dilation = _repeat_per_axis(given.get("dilation", 1), axes)
    padding = given.get("padding", 0)
    if padding == "same":
        # Of an even kernel, torch pads one more behind than in front.
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
    padding = _repeat_per_axis(0 if padding == "valid" else padding, axes)
    return Window(kernel, stride, padding, dilation, given.get("groups", 1))


def _repeat_per_axis(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return tuple(int(v) for v in values) * (axes if len(values) == 1 else 1)


def _read_sizes(call: Call) -> tuple[Sequence[int], Sequence[int]]:
    return call.given["input"].shape[2:], call.output.shape[2:]


def _read_window(call: Call, reading: Callable[..., Reading], window: Window) -> Field:
    return call.field.read(_read_axes(reading, window.kernel, window.stride, window.padding, window.dilation))


def _read_axes(reading: Callable[..., Reading], *settings: Sequence[int]) -> dict[int, Reading]:
    """A reading for each of the last dimensions; each setting has an entry for every one of them."""
    return {i - len(settings[0]): reading(*values) for i, values in enumerate(zip(*settings, strict=True))}


def _slide(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """How a convolution or pooling reads; `padding` is what precedes the first position."""
    return Reading(lambda o: range(o * stride - padding, o * stride - padding + kernel * dilation, dilation), stride)


def _spread(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """How a transposed convolution reads: input i goes to the outputs i · stride − padding + dilation · tap."""

    def find_positions(output: int) -> list[int]:
        places = [output + padding - dilation * tap for tap in range(kernel)]
        # Between the inputs lie stride − 1 zeros, which see nothing.
        return [place // stride for place in places if place % stride == 0]

    return Reading(find_positions, 1, stride)


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
    # Fractions, because a rounding error at a whole place would read a neighbour too many.
    ratio = Fraction(inputs - 1, outputs - 1) if corners else Fraction(inputs, outputs)
    offset = Fraction(1, 2) if centred and not corners else Fraction(0)

    def find_positions(output: int) -> Iterable[int]:
        if neighbours == 0:
            return [math.floor((output + offset) * ratio)]
        place = (output + offset) * ratio - offset
        if place.denominator == 1:
            return [int(place)]
        return range(math.floor(place) - neighbours + 1, math.floor(place) + neighbours + 1)

    return Reading(find_positions, ratio.numerator, ratio.denominator)
