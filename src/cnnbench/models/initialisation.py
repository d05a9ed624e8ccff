"""How weights are drawn before training."""

import torch
from torch import nn

from cnnbench.registry import unknown

INITIALISATIONS = ("default", "kaiming", "xavier", "normal")


def initialise(model: nn.Module, name: str, std: float) -> None:
    """Draw the weights of every convolution and dense layer anew; their biases become 0.

    Args:
        name: `default` leaves what the layers drew themselves (torch's, and the course's); `kaiming` is normal with
            variance 2 / fan_in (arXiv:1502.01852); `xavier` is uniform with variance 2 / (fan_in + fan_out) (Glorot
            and Bengio, 2010); `normal` has the standard deviation `std`.

    Raises:
        ValueError: unknown name.
    """
    if name not in INITIALISATIONS:
        raise ValueError(unknown("model.init", name, INITIALISATIONS))
    if name == "default":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            _draw(layer.weight, name, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _draw(weight: torch.Tensor, name: str, std: float) -> None:
    if name == "kaiming":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    elif name == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.normal_(weight, std=std)
