"""Build a network from a model's name and the shape of the data; its weights depend only on the seed."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench import registry
from cnnbench.models.spec import NetworkSpec
from cnnbench.registry import describe_unknown
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
        options: those that the family declares.
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
    # The seeding covers `initialise` too, which draws after the constructors.
    with seed_initialisation(seed), torch.device(device):
        model = registry.build("model", name, options=options, spec=spec)
        if not isinstance(model, nn.Module):  # of a plug-in
            raise ValueError(f"model={name}: its function must return an nn.Module, not {type(model).__name__}")
        initialise(model, init, init_std)
    return model


def _list_dimensions(name: str) -> tuple[int, ...]:
    registry.find_part("model", name)  # refuses an unknown name
    return registry.get_facts("model", name).get("dimensions", (IMAGES,))


def initialise(model: nn.Module, name: str, std: float) -> None:
    """Draw the weights of every convolution and dense layer anew; their biases become 0.

    `default` leaves what the layers drew themselves (torch's way, and the course's); `kaiming` is normal with variance
    2 / fan_in (He et al., arXiv:1502.01852); `xavier` is uniform with variance 2 / (fan_in + fan_out) (Glorot and
    Bengio, 2010); `normal` has the standard deviation `std`.

    Raises:
        ValueError: unknown name.
    """
    if name == "default":
        return
    draws: dict[str, Callable[[Tensor], Tensor]] = {
        # For ReLU with any activation, so that two activations start from the same weights.
        "kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
        "normal": partial(nn.init.normal_, std=std),
    }
    if name not in draws:
        raise ValueError(describe_unknown("model.init", name, ["default", *draws]))
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            draws[name](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
