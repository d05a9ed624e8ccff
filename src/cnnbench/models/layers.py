"""Single layers that the families share: activations, norms, dense layers."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.models.spec import NetworkSpec, Norm
from cnnbench.registry import describe_unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
MOST_GROUPS = 8  # of a group normalisation; the largest power of two below that divides the channels, if 8 does not


def make_activation(name: str) -> nn.Module:
    """A new activation module; raises ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(describe_unknown("model.activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]()


class LocalResponseNorm(nn.Module):
    """AlexNet's normalisation: x / (2 + 1e-4 / 5 · sum of squares over 5 neighbouring channels)^0.75.

    Krizhevsky, Sutskever and Hinton, 2012, section 3.3. Equal to torch's layer of that name with these constants.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) to the same shape."""
        # Shifted copies, because torch's layer sums by a 3-D pooling, which takes more than twice as long on a CPU.
        channels = x.shape[1]
        squares = F.pad(x.square(), (0, 0) * (x.dim() - 2) + (2, 2))
        total = squares[:, :channels]
        for shift in range(1, 5):
            total = total + squares[:, shift : shift + channels]
        # y^-0.75 as y^-0.5 · y^-0.25: two square roots are several times faster than a power.
        root = (2.0 + 1e-4 / 5 * total).rsqrt()
        return x * root * root.sqrt()


def make_norm(name: Norm, channels: int, dimensions: int = 2) -> nn.Module:
    """A normalisation of `channels` channels: over images where `dimensions` is 2, over signals where it is 1.

    `layer` normalises each image over all its channels and pixels, `group` over groups of channels, `instance` over
    each channel alone, `lrn` over 5 neighbouring channels.
    """
    match name:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm1d(channels) if dimensions == 1 else nn.BatchNorm2d(channels)
        case "layer":
            # One group of all channels: torch's LayerNorm would need the size of the images.
            return nn.GroupNorm(1, channels)
        case "instance":
            # Without affine=True it has no weights, unlike all other norms.
            return (nn.InstanceNorm1d if dimensions == 1 else nn.InstanceNorm2d)(channels, affine=True)
        case "group":
            return nn.GroupNorm(math.gcd(MOST_GROUPS, channels), channels)
        case "lrn":
            return LocalResponseNorm()


def make_dense_stack(in_features: int, units: int, spec: NetworkSpec) -> nn.Sequential:
    """`depth` dense layers of `units` units, each with its activation and dropout: (N, in_features) to (N, units)."""
    layers: list[nn.Module] = []
    for inputs in [in_features] + [units] * (spec.depth - 1):
        layers += [nn.Linear(inputs, units), make_activation(spec.activation)]
        if spec.dropout > 0:
            layers.append(nn.Dropout(spec.dropout))
    return nn.Sequential(*layers)
