"""Building blocks that several families share."""

from collections.abc import Callable

from torch import nn

from cnnbench.registry import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


def activation_layer(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    try:
        return ACTIVATIONS[name]()
    except KeyError:
        raise ValueError(unknown("model.activation", name, ACTIVATIONS)) from None


def scaled(count: int, width: float) -> int:
    """A number of channels or units times `width`, rounded half up, at least 1."""
    return max(1, int(count * width + 0.5))


def conv_stack(
    in_channels: int, out_channels: int, kernel_size: int, *, depth: int, activation: str, padding: int = 0
) -> nn.Sequential:
    """A convolution and its activation, then depth − 1 more of the same kernel that keep the size.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H', W') with H' = H + 2·padding − kernel_size + 1.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding),
        activation_layer(activation),
    ]
    for _ in range(depth - 1):
        layers += [
            nn.Conv2d(out_channels, out_channels, kernel_size, padding="same"),
            activation_layer(activation),
        ]
    return nn.Sequential(*layers)


def dense_stack(
    in_features: int, out_features: int, *, depth: int, activation: str, dropout: float = 0.0
) -> nn.Sequential:
    """A linear layer, its activation and dropout, then depth − 1 more of the layer's own size.

    Shapes: (N, in_features) to (N, out_features).
    """
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [
            nn.Linear(in_features if number == 0 else out_features, out_features),
            activation_layer(activation),
        ]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
