"""Rules for functions that read whole dimensions (dense layers, attention, means) or move them."""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.analysis.operations import Call, Effect, get_field, rule
from cnnbench.analysis.receptive_field import GONE, Reading


@rule("input weight", F.linear)
def _linear(call: Call) -> Effect:
    return Effect(call.field.mix({-1}).deepen(), macs=_count_product(call))


@rule("input other", torch.matmul, Tensor.matmul, Tensor.__matmul__)
@rule("input mat2", torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
@rule("added input mat2", torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _product(call: Call) -> Effect:
    """A product of matrices: a dense layer if one is a weight; otherwise every output may see everything."""
    left, right = call.given["input"], call.given.get("mat2", call.given.get("other"))
    # Two inputs that depend on the image: attention, whose weights depend on every position.
    if get_field(left) and get_field(right):
        return Effect(call.field.mix_all(), macs=_count_product(call))
    return Effect(call.field.mix({-1 if get_field(left) else -2}).deepen(), macs=_count_product(call))


def _count_product(call: Call) -> int:
    return call.output.numel() * call.given["input"].shape[-1]  # each output is the sum of as many products


@rule("", torch.einsum, F.scaled_dot_product_attention)
def _attention(call: Call) -> Effect:
    return Effect(call.field.mix_all())


@rule("", F.multi_head_attention_forward)
def _multi_head_attention(call: Call) -> Effect:
    # Two layers with weights: the projections to query, key and value, and the one of what attention has read.
    return Effect(call.field.mix_all().deepen(2))


@rule("input dim keepdim", torch.mean, Tensor.mean, torch.sum, Tensor.sum, torch.amax, Tensor.amax)
@rule("input dim keepdim", torch.max, Tensor.max)
def _reduction(call: Call) -> Effect:
    dim, axes = call.given.get("dim"), call.given["input"].dim()
    if isinstance(dim, Tensor) or "other" in call.given:  # the greater of two tensors
        return Effect(call.field)
    dims = range(axes) if dim is None else dim if isinstance(dim, list | tuple) else [dim]
    reduced = {d % axes - axes for d in dims}
    field = call.field.mix(reduced)
    if call.given.get("keepdim"):
        return Effect(field)
    # A dimension moves towards the last by the number of those behind it that are gone.
    left = (GONE if d in reduced else d + sum(r > d for r in reduced) if d else d for d in field.dims)
    return Effect(field.replace_dims(left))


@rule("input dims", torch.permute, Tensor.permute)
def _permutation(call: Call) -> Effect:
    dims, axes = call.given["dims"], call.output.dim()
    order = [d % axes - axes for d in (call.args[1:] if isinstance(dims, int) else dims)]
    return Effect(call.field.replace_dims(order.index(d) - axes if d else d for d in call.field.dims))


@rule("input dim0 dim1", torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes)
def _transposition(call: Call) -> Effect:
    first, second = (call.given[name] % call.output.dim() - call.output.dim() for name in ("dim0", "dim1"))
    swapped = {first: second, second: first}
    return Effect(call.field.replace_dims(swapped.get(d, d) if d else d for d in call.field.dims))


@rule("input index", Tensor.__getitem__)
def _indexing(call: Call) -> Effect:
    """`x[:, :, 1::2]` reads every second position; a number leaves a single position of its dimension."""
    shape, index = call.given["input"].shape, call.given["index"]
    index = index if isinstance(index, tuple) else (index,)
    # Tensors and masks as indices pick positions that are known only when the model runs.
    if not all(type(part) in (int, slice, type(None), EllipsisType) for part in index):
        return Effect(call.field.reshape(shape, call.output.shape))
    readings: dict[int, Reading] = {}
    places: dict[int, int] = {}  # of each dimension of the input in the output, both counted from the first
    source = target = 0
    for part in _replace_ellipsis(index, len(shape)):
        if part is None:
            target += 1
            continue
        if isinstance(part, slice):
            start, _, step = part.indices(shape[source])
            places[source], target = target, target + 1
        else:
            start, step = part % shape[source], 1
        if source - len(shape) in call.field.dims and (start, step) != (0, 1):
            readings[source - len(shape)] = _make_strided_reading(start, step)
        source += 1
    # A number takes its dimension away and leaves one position: 0 from the last dimension is `GONE`.
    axes = call.output.dim()
    dims = [places.get(d + len(shape), axes) - axes if d else d for d in call.field.dims]
    return Effect(call.field.read(readings).replace_dims(dims))


def _make_strided_reading(start: int, step: int) -> Reading:
    return Reading(lambda o: [start + o * step], step)


def _replace_ellipsis(index: Sequence[Any], dimensions: int) -> list[Any]:
    """The index with a full slice for each dimension that it does not mention."""
    parts = list(index)
    missing = [slice(None)] * (dimensions - sum(part is not None and part is not Ellipsis for part in parts))
    if Ellipsis not in parts:
        return parts + missing
    at = parts.index(Ellipsis)
    return [*parts[:at], *missing, *parts[at + 1 :]]
