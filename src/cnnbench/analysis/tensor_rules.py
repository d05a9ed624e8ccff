"""Rules for functions that look along whole dimensions (dense layers, attention, means) or move them."""

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.analysis.operations import Call, Effect, field_of, rule
from cnnbench.analysis.receptive_field import GONE, Reading


@rule(F.linear)
def _linear(call: Call, weight: Tensor, bias: Any = None) -> Effect:
    return Effect(call.field.mix({-1}).deepen(), call.output.numel() * call.input.shape[-1])


@rule(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
def _product(call: Call, right: Tensor) -> Effect:
    return _multiply(call, call.input, right)


@rule(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _product_and_sum(call: Call, left: Tensor, right: Tensor, **_: Any) -> Effect:
    return _multiply(call, left, right)


def _multiply(call: Call, left: Tensor, right: Tensor) -> Effect:
    """A product of matrices: a dense layer if one is a weight; otherwise every output may see everything."""
    macs = call.output.numel() * left.shape[-1]
    if field_of(left) and field_of(right):
        return Effect(call.field.mix_all(), macs)
    return Effect(call.field.mix({-1 if field_of(left) else -2}).deepen(), macs)


@rule(torch.einsum)
def _einsum(call: Call, *operands: Any) -> Effect:
    terms, _, result = call.input.replace(" ", "").partition("->")
    factors: Sequence[Tensor] = operands if isinstance(operands[0], Tensor) else operands[0]
    sizes: dict[str, int] = {}
    for term, factor in zip(terms.split(","), factors, strict=True):
        before, _, behind = term.partition("...")
        sizes |= dict(zip(before, factor.shape, strict=False))
        sizes |= dict(zip(reversed(behind), reversed(factor.shape), strict=False))
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    return Effect(call.field.mix_all(), (len(factors) - 1) * call.output.numel() * summed)


@rule(F.scaled_dot_product_attention)
def _attention(call: Call, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Effect:
    """softmax(query · keyᵀ) · value: (…, L, E), (…, S, E), (…, S, V) to (…, L, V)."""
    units = call.output.shape[-1]
    rows = call.output.numel() // units
    return Effect(call.field.mix_all(), rows * key.shape[-2] * (call.input.shape[-1] + units))


@rule(F.multi_head_attention_forward)
def _multi_head_attention(call: Call, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Effect:
    """Projections of query (L, N, E), key and value (S, N, …) to E units, attention, projection of (L, N, E)."""
    query = call.input
    projections = query.shape[-1] * (2 * query.numel() + key.numel() + value.numel())
    attention = 2 * query.numel() * key.shape[0]
    return Effect(call.field.mix_all().deepen(2), projections + attention)


@rule(torch.mean, Tensor.mean, torch.sum, Tensor.sum, torch.amax, Tensor.amax, torch.max, Tensor.max)
def _reduction(call: Call, dim: Any = None, keepdim: bool = False, *, other: Any = None, **_: Any) -> Effect:
    if isinstance(dim, Tensor) or other is not None:  # the greater of two tensors
        return Effect(call.field)
    axes = call.input.dim()
    dims = range(axes) if dim is None else dim if isinstance(dim, list | tuple) else [dim]
    reduced = {d % axes - axes for d in dims}
    field = call.field.mix(reduced)
    if not keepdim:
        # A dimension moves towards the last by the number of those behind it that are gone.
        field = field.with_dims(
            GONE if d in reduced else d + sum(r > d for r in reduced) if d else d for d in field.dims
        )
    return Effect(field)


@rule(torch.permute, Tensor.permute)
def _permutation(call: Call, *dims: Any) -> Effect:
    axes = call.output.dim()
    order = [d % axes - axes for d in (dims if isinstance(dims[0], int) else dims[0])]
    return Effect(call.field.with_dims(order.index(d) - axes if d else d for d in call.field.dims))


@rule(torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes)
def _transposition(call: Call, dim0: int, dim1: int) -> Effect:
    axes = call.output.dim()
    first, second = dim0 % axes - axes, dim1 % axes - axes
    swapped = {first: second, second: first}
    return Effect(call.field.with_dims(swapped.get(d, d) if d else d for d in call.field.dims))


@rule(Tensor.__getitem__)
def _indexing(call: Call, index: Any) -> Effect:
    """`x[:, :, 1::2]` reads every second position; a number leaves a single position of its dimension."""
    index = index if isinstance(index, tuple) else (index,)
    shape = call.input.shape
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
            readings[source - len(shape)] = _stride(start, step)
        source += 1
    # A number takes its dimension away and leaves one position: place 0 from the last, which is `GONE`.
    axes = call.output.dim()
    dims = [places.get(d + len(shape), axes) - axes if d else d for d in call.field.dims]
    return Effect(call.field.read(readings).with_dims(dims))


def _stride(start: int, step: int) -> Reading:
    return Reading(lambda o: [start + o * step], step)


def _replace_ellipsis(index: Sequence[Any], dimensions: int) -> list[Any]:
    """The index with a full slice for each dimension that it does not mention."""
    parts = list(index)
    missing = [slice(None)] * (dimensions - sum(part is not None and part is not Ellipsis for part in parts))
    if Ellipsis not in parts:
        return parts + missing
    at = parts.index(Ellipsis)
    return [*parts[:at], *missing, *parts[at + 1 :]]
