"""The effect of one call of a torch function: which part of the image its outputs see.

`rule` gives a function its own rule. A function without one counts as elementwise, or as a reshape where the number of
elements stays the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnnbench.analysis.receptive_field import Field, merge_fields


@dataclass(frozen=True)
class Window:
    """The settings of a convolution or pooling, one entry per axis; `padding` is what precedes the first position."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        field: what all its inputs see together.
        args: its positional arguments.
        given: all arguments by name.
        output: the first of its outputs.
    """

    field: Field
    args: Sequence[Any]
    given: Mapping[str, Any]
    output: Tensor


@dataclass(frozen=True)
class Effect:
    """What the outputs of a call see, and the window of a convolution or pooling."""

    field: Field
    window: Window | None = None


Rule = Callable[[Call], Effect]
RULES: dict[Callable[..., Any], tuple[list[str], Rule]] = {}


def rule(names: str, *functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Register the rule of some torch functions, whose first positional parameters are `names`."""

    def add(effect: Rule) -> Rule:
        RULES.update({function: (names.split(), effect) for function in functions})
        return effect

    return add


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
