"""Initialise weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from cnnbench.registry import describe_unknown

DRAWS: dict[str, Callable[..., Any]] = {
    # For ReLU with any activation, so that two activations start from the same weights.
    "kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "xavier": nn.init.xavier_uniform_,
    "normal": nn.init.normal_,
}


def initialise(model: nn.Module, name: str, std: float) -> None:
    """Draw the weights of every convolution and dense layer anew; their biases become 0.

    Args:
        name: `default` leaves what the layers drew themselves (torch's way, and the course's); `kaiming` is normal with
            variance 2 / fan_in (He et al., arXiv:1502.01852); `xavier` is uniform with variance 2 / (fan_in + fan_out)
            (Glorot and Bengio, 2010); `normal` has the standard deviation `std`.

    Raises:
        ValueError: unknown name.
    """
    if name == "default":
        return
    if name not in DRAWS:
        raise ValueError(describe_unknown("model.init", name, ["default", *DRAWS]))
    draw = partial(DRAWS[name], std=std) if name == "normal" else DRAWS[name]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
