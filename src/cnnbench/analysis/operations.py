"""The effect of one call of a torch function: which part of the image its outputs see, and its multiply-accumulates.

`rule` gives a function its own rule. A function without one counts as elementwise, or as a reshape where the number of
elements stays the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.analysis.receptive_field import Field, merge_fields

# Functions that call others: torch's own counter sees those.
COMPOSED = (torch.einsum, torch.tensordot, F.scaled_dot_product_attention, F.multi_head_attention_forward)


@dataclass(frozen=True)
class Window:
    """The settings of a convolution or pooling, one entry per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]  # what precedes the first position
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Call:
    """One call of a torch function."""

    field: Field  # what all its inputs see together
    args: Sequence[Any]  # the positional ones
    given: Mapping[str, Any]  # all arguments by name
    output: Tensor  # the first one


@dataclass(frozen=True)
class Effect:
    """What a call does."""

    field: Field  # what its outputs see
    window: Window | None = None  # of a convolution or pooling
    macs: int = 0  # multiply-accumulates, without bias additions and activations


Rule = Callable[[Call], Effect]
RULES: dict[Callable[..., Any], tuple[list[str], Rule]] = {}


def rule(names: str, *functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Register the rule of some torch functions, whose first positional parameters are `names`."""

    def add(effect: Rule) -> Rule:
        RULES.update({function: (names.split(), effect) for function in functions})
        return effect

    return add


def call_and_count(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int]:
    """The result of a torch function, and its multiply-accumulates where no rule counts them."""
    has_weights = any(isinstance(value, nn.Parameter) and value.dim() > 1 for value in (*args, *kwargs.values()))
    if func not in COMPOSED and (func in RULES or not has_weights):
        return func(*args, **kwargs), 0
    # Only where it is needed: it imports torch's compiler, which takes more than a second.
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        output = func(*args, **kwargs)
    return output, counter.get_total_flops() // 2


def compute_effect(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> Effect:
    """The effect of calling a torch function with these arguments and this (first) output."""
    inputs = [(tensor, field) for tensor in find_tensors((args, kwargs)) if (field := get_field(tensor))]
    if func not in RULES:
        # A reshape, or elementwise with broadcasting: both keep an axis where its dimension can be recognised.
        return Effect(merge_fields([field.reshape(tensor.shape, output.shape) for tensor, field in inputs]))
    names, effect = RULES[func]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return effect(Call(merge_fields([field for _, field in inputs]), args, given, output))


def get_field(tensor: Tensor) -> Field | None:
    """What a tensor's elements see; None for one that does not depend on the image, such as a weight."""
    return getattr(tensor, "_cnnbench_field", None)


def set_field(tensor: Tensor, field: Field) -> None:
    """Attach a field to a tensor."""
    tensor._cnnbench_field = field  # type: ignore[attr-defined]


def find_tensors(arguments: Any) -> list[Tensor]:
    """The tensors anywhere in nested lists, tuples and dicts."""
    if isinstance(arguments, Tensor):
        return [arguments]
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        return [tensor for inner in arguments for tensor in find_tensors(inner)]
    return []
