"""From a model's name and the shape of the data to a network with weights that depend on the seed alone."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cnnbench import registry
from cnnbench.models.initialisation import initialise
from cnnbench.reproducibility import initialising


def build_model(
    name: str,
    *,
    in_channels: int,
    image_size: int | Sequence[int],
    num_classes: int,
    dimensions: int = 2,
    width: float = 1.0,
    depth: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
    init: str = "default",
    init_std: float = 0.01,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Build a registered network that maps images (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        image_size: (H, W), or one number for both; of signals their samples.
        dimensions: 2 for images; 1 for signals (N, in_channels, L), which only families whose signature
            has `dimensions` take.
        width: multiplies every hidden channel and unit count.
        depth: multiplies the layers of every stage.
        init, init_std: how weights are drawn; see `initialise`.
        options: what the family adds; checked against its signature.
        seed: the weights are a function of it.
        device: `meta` makes the shapes without allocating any weights.

    Raises:
        ValueError: an unknown name, activation or option, or images the network cannot take.
    """
    takes_signals = _takes_signals(name)
    if dimensions == 1 and not takes_signals:
        able = ", ".join(other for other in registry.names("model") if _takes_signals(other))
        raise ValueError(f"model={name} takes images, and the data are signals. Models that take signals: {able}")
    with initialising(seed), torch.device(device):
        model = registry.build(
            "model",
            name,
            options=options,
            in_channels=in_channels,
            image_size=(image_size,) * dimensions if isinstance(image_size, int) else tuple(image_size),
            num_classes=num_classes,
            width=width,
            depth=depth,
            activation=activation,
            dropout=dropout,
            **({"dimensions": dimensions} if takes_signals else {}),
        )
        initialise(model, init, init_std)
    return model


def _takes_signals(name: str) -> bool:
    return "dimensions" in inspect.signature(registry.get("model", name)).parameters
