"""Rules for what looks along whole dimensions (dense layers, attention, means) or moves them about."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbench.analysis.operations import Effect, field_of, rule
from cnnbench.analysis.receptive_field import GONE, Field, Reading


@rule("input weight", F.linear)
def _linear(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    return Effect(field.mixed({-1}).deeper(), output.numel() * given["input"].shape[-1])


@rule("input other", torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
@rule("added input other", torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _product(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    """A product of matrices; with a weight it is a dense layer, otherwise every output may see everything."""
    left = given["input"]
    right = next(given[name] for name in ("other", "mat2", "batch2") if name in given)
    macs = output.numel() * left.shape[-1]
    if field_of(left) and field_of(right):
        return Effect(field.everything(), macs)
    return Effect(field.mixed({-1 if field_of(left) else -2}).deeper(), macs)


@rule("equation *operands", torch.einsum)
def _einsum(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    terms, _, result = given["equation"].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms.split(","), given["operands"], strict=True):
        before, _, behind = term.partition("...")
        sizes |= dict(zip(before, operand.shape, strict=False))
        sizes |= dict(zip(reversed(behind), reversed(operand.shape), strict=False))
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    products = len(given["operands"]) - 1
    return Effect(field.everything(), products * output.numel() * summed)


@rule("query key value", F.scaled_dot_product_attention)
def _attention(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    """softmax(query · keyᵀ) · value: (…, L, E), (…, S, E), (…, S, V) to (…, L, V)."""
    query, key = given["query"], given["key"]
    rows = output.numel() // output.shape[-1]
    return Effect(field.everything(), rows * key.shape[-2] * (query.shape[-1] + output.shape[-1]))


@rule("query key value", F.multi_head_attention_forward)
def _multi_head_attention(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    """Projections of query (L, N, E), key and value (S, N, …) to E units, attention, projection of (L, N, E)."""
    query, key, value = given["query"], given["key"], given["value"]
    units = query.shape[-1]
    projections = units * (2 * query.numel() + key.numel() + value.numel())
    attention = 2 * query.numel() * key.shape[0]
    return Effect(field.everything().deeper(2), projections + attention)


@rule("input dim keepdim", torch.mean, Tensor.mean, torch.sum, Tensor.sum, torch.amax, Tensor.amax)
@rule("input dim keepdim", torch.max, Tensor.max)
def _reduction(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    dim, axes = given.get("dim"), given["input"].dim()
    if isinstance(dim, Tensor) or "other" in given:  # the greater of two tensors
        return Effect(field)
    reduced = (
        set(range(-axes, 0))
        if dim is None
        else {d % axes - axes for d in (dim if isinstance(dim, list | tuple) else (dim,))}
    )
    after = field.mixed(reduced)
    if not given.get("keepdim", False):
        left = [GONE if d in reduced else d + sum(r > d for r in reduced) if d else d for d in field.dims]
        after = after.laid(left)
    return Effect(after)


@rule("input *dims", torch.permute, Tensor.permute)
def _permutation(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    axes = output.dim()
    order = [d % axes - axes for d in given["dims"]]
    return Effect(field.laid(order.index(d) - axes if d else d for d in field.dims))


@rule("input dim0 dim1", torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes)
def _transposition(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    first, second = (given[name] % output.dim() - output.dim() for name in ("dim0", "dim1"))
    swapped = {first: second, second: first}
    return Effect(field.laid(swapped.get(d, d) if d else d for d in field.dims))


@rule("input index", Tensor.__getitem__)
def _indexing(field: Field, given: Mapping[str, Any], output: Tensor) -> Effect:
    """`x[:, :, 1::2]` reads every second position; one index leaves a single position of its dimension."""
    index = given["index"] if isinstance(given["index"], tuple) else (given["index"],)
    shape = given["input"].shape
    if not all(part is None or part is Ellipsis or type(part) in (int, slice) for part in index):
        return Effect(field.reshaped(shape, output.shape))
    readings: dict[int, Reading] = {}
    place: dict[int, int] = {}  # where each dimension of the input is in the output, both counted from the first
    at, to = 0, 0
    for part in _without_ellipsis(index, len(shape)):
        if part is None:
            to += 1
            continue
        if isinstance(part, slice):
            start, _, step = part.indices(shape[at])
            place[at], to = to, to + 1
        else:
            start, step = part % shape[at], 1
        if (start, step) != (0, 1):
            readings[at - len(shape)] = Reading(lambda o, start=start, step=step: [start + o * step], step)  # type: ignore[misc]
        at += 1
    # An index takes the dimension away and leaves one position.
    dims = [place.get(d + len(shape), output.dim()) - output.dim() if d else d for d in field.dims]
    kept = {dim: reading for dim, reading in readings.items() if dim in field.dims}
    return Effect(field.read(kept).laid(dims))


def _without_ellipsis(index: Iterable[Any], dimensions: int) -> list[Any]:
    parts = list(index)
    missing = [slice(None)] * (dimensions - sum(part is not None and part is not Ellipsis for part in parts))
    if Ellipsis not in parts:
        return parts + missing
    at = parts.index(Ellipsis)
    return [*parts[:at], *missing, *parts[at + 1 :]]
