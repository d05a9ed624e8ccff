"""What a call of a tensor function costs and what its outputs see, by a rule for each function that needs one.

A function without a rule is taken for elementwise, or for a reshape where it keeps the number of elements.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnnbench.analysis.receptive_field import Field, merged


@dataclass(frozen=True)
class Window:
    """How a convolution or pooling is set, with an entry for each axis; `padding` is what stands before the first."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Effect:
    """What a call came to.

    Attributes:
        field: what its outputs see.
        macs: multiply-accumulates; bias additions and activations are not counted.
        window: of a convolution or pooling.
    """

    field: Field
    macs: int = 0
    window: Window | None = None


Rule = Callable[[Field, Mapping[str, Any], Tensor], Effect]
RULES: dict[Callable[..., Any], tuple[str, Rule]] = {}


def effect_of(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> Effect:
    """The effect of calling a tensor function, told from its arguments and its (first) output."""
    inputs = [(tensor, field) for tensor in tensors((args, kwargs)) if (field := field_of(tensor))]
    if func in RULES:
        names, effect = RULES[func]
        before = merged([field for _, field in inputs]) if inputs else Field((), ())
        return effect(before, _named(names.split(), args, kwargs), output)
    reshaped = [field.reshaped(tensor.shape, output.shape) for tensor, field in inputs]
    return Effect(merged(reshaped) if reshaped else Field((), ()))


def field_of(tensor: Tensor) -> Field | None:
    """What a tensor's elements see of the input; None for one that does not depend on it, such as a weight."""
    return getattr(tensor, "_cnnbench_field", None)


def remember(tensor: Tensor, field: Field) -> None:
    """Attach a field to a tensor."""
    tensor._cnnbench_field = field  # type: ignore[attr-defined]


def tensors(arguments: Any) -> list[Tensor]:
    """The tensors anywhere in nested lists, tuples and dicts."""
    if isinstance(arguments, Tensor):
        return [arguments]
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        return [tensor for inner in arguments for tensor in tensors(inner)]
    return []


def rule(names: str, *functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Make what follows the rule of `functions`, whose positional parameters are `names`; `*rest` takes all others."""

    def add(effect: Rule) -> Rule:
        RULES.update({function: (names, effect) for function in functions})
        return effect

    return add


def _named(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(zip(names, args, strict=False))
    if names[-1].startswith("*"):
        rest = args[len(names) - 1 :]
        given[names[-1][1:]] = rest[0] if len(rest) == 1 and isinstance(rest[0], list | tuple) else rest
    return {**given, **kwargs}
