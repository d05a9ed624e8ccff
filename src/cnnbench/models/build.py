"""Build a network from a model's name and the shape of the data; its weights depend only on the seed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cnnbench import registry
from cnnbench.models.initialisation import initialise
from cnnbench.models.network import NetworkSpec
from cnnbench.reproducibility import seed_initialisation

IMAGES, SIGNALS = 2, 1  # dimensions of the data


def build_model(
    name: str,
    spec: NetworkSpec,
    *,
    options: Mapping[str, Any] | None = None,
    init: str = "default",
    init_std: float = 0.01,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Build a registered network that maps images or signals to logits, or back to images.

    Args:
        options: what the family adds, as plain data; checked against the options that it declares.
        init, init_std: how weights are drawn; see `initialise`.
        seed: the weights are a function of it.
        device: `meta` makes the shapes without allocating any weights.

    Raises:
        ValueError: an unknown name or option, or data the network cannot take.
    """
    accepted = _list_dimensions(name)
    if spec.dimensions == SIGNALS and SIGNALS not in accepted:
        able = [other for other in registry.list_names("model") if SIGNALS in _list_dimensions(other)]
        raise ValueError(
            f"model={name} takes images, but the data are signals. Models that take signals: {', '.join(able)}"
        )
    if spec.dimensions == IMAGES and IMAGES not in accepted:
        raise ValueError(f"model={name} takes signals, and the data are images: use data=waves or data=csv_signals")
    with seed_initialisation(seed), torch.device(device):
        model = registry.build("model", name, options=options, spec=spec)
        if not isinstance(model, nn.Module):  # of a plug-in
            raise ValueError(f"model={name}: its function must return an nn.Module, not {type(model).__name__}")
        initialise(model, init, init_std)
    return model


def _list_dimensions(name: str) -> tuple[int, ...]:
    registry.find_part("model", name)  # refuses an unknown name
    return registry.get_facts("model", name).get("dimensions", (IMAGES,))
