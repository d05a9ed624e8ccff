"""The multiply-accumulates of one call of a torch function, without bias additions and activations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
COMPOSED = (torch.einsum, torch.tensordot, F.scaled_dot_product_attention, F.multi_head_attention_forward)


def call_and_count(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int]:
    """The result of a torch function, and its multiply-accumulates."""
    if func in COMPOSED or (func not in KNOWN and any(map(_is_matrix, [*args, *kwargs.values()]))):
        return _call_and_watch(func, args, kwargs)
    output = func(*args, **kwargs)
    count = KNOWN.get(func)
    return output, count(args, kwargs, output) if count else 0


def _count_convolution(args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> int:
    weight = kwargs["weight"] if "weight" in kwargs else args[1]
    return output.numel() * weight[0].numel()  # each output reads a filter, (C_in / groups, *kernel)


def _count_transposed(args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> int:
    inputs = kwargs["input"] if "input" in kwargs else args[0]
    weight = kwargs["weight"] if "weight" in kwargs else args[1]
    return inputs.numel() * weight[0].numel()  # each input is spread by (C_out / groups, *kernel)


def _count_product(args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> int:
    inputs = kwargs["input"] if "input" in kwargs else args[0]
    return output.numel() * inputs.shape[-1]


KNOWN: dict[Callable[..., Any], Callable[..., int]] = {
    **dict.fromkeys(CONVOLUTIONS, _count_convolution),
    **dict.fromkeys(TRANSPOSED, _count_transposed),
    **dict.fromkeys((F.linear, *PRODUCTS), _count_product),
}


def _is_matrix(value: Any) -> bool:
    return isinstance(value, nn.Parameter) and value.dim() > 1


def _call_and_watch(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int]:
    """As `call_and_count`, by torch's counter, which sees what the function calls.

    It is only used where no formula is known, because it imports torch's compiler, which takes more than a second.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        output = func(*args, **kwargs)
    return output, counter.get_total_flops() // 2
