"""What happens inside a network: gradients, units that never answer, the field that a gradient reaches.

torch is imported where it is used, because listing claims must not wait for it.
"""

import math
from typing import TYPE_CHECKING

from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.config.keys import Options, key
from cnnbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = 256  # of the keyed batch: the first training images


class ShareOptions(Options):
    """How much of the gradient counts."""

    share: float = key("Share of the squared gradient inside the field", 0.95, gt=0, lt=1)


class GradientOptions(Options):
    """Which gradient."""

    layer: int = key("Convolution or dense layer, counted from 1 at the images", ge=1)
    trained: bool = key("Measure with the best weights; otherwise with those before training", False)


@register("measure", "gradient_decay", source="run", low=-20, high=20)
def gradient_decay(run: FinishedRun) -> float:
    """Decimal orders of magnitude by which the first layer's weight gradient is smaller than the last one's.

    For the network as it was before training, on the first training images. Each gradient is its root mean square, so
    that layers of different size compare.
    """
    gradients = _compute_gradients(run, is_trained=False)
    # A gradient of zero has no logarithm; 20 orders of magnitude are the measure's bound.
    sizes = [math.log10(max(1e-20, float(one.square().mean().sqrt()))) for one in (gradients[0], gradients[-1])]
    return min(20.0, sizes[1] - sizes[0])


@register("measure", "gradient_norm", source="run", low=0, high=math.inf)
def gradient_norm(run: FinishedRun, options: GradientOptions) -> float:
    """Euclidean norm of the gradient of a layer's weights, before training or after, on the first training images."""
    gradients = _compute_gradients(run, is_trained=options.trained)
    if options.layer > len(gradients):
        raise ValueError(f"{run.path}: layer={options.layer}: its network has {len(gradients)} layers with weights")
    return float(gradients[options.layer - 1].norm())


def _compute_gradients(run: FinishedRun, *, is_trained: bool) -> "list[Tensor]":
    """The gradient of the loss with respect to the weights of each convolution and dense layer."""
    import torch.nn.functional as F
    from torch import nn

    from cnnbench.experiment.factories import make_model, place_model

    ready = run.prepare("train")
    if not ready.trained.info.class_names:
        raise ValueError(f"{run.path} has no classes, and so no loss that other runs have")
    config, model = ready.trained.config, ready.model
    if not is_trained:
        model = place_model(make_model(config, ready.trained.info), ready.device, config)
    model.train()  # the gradient that training sees, with its batch norms and dropout
    images, labels = next(ready.serve(ready.found.split).iterate_epoch())
    F.cross_entropy(model(images[:IMAGES]), labels[:IMAGES]).backward()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    return [layer.weight.grad.double() for layer in layers if layer.weight.grad is not None]


@register("measure", "dead_units", source="run", low=0, high=1)
def dead_units(run: FinishedRun) -> float:
    """Share of the units behind activations that test images never switch on.

    A channel of a convolution is one unit. It is on where its activation lets a gradient through: where the slope is
    above 0.001, for ReLU any input above 0.
    """
    import torch

    from cnnbench.models.layers import ACTIVATIONS, make_activation

    ready = run.prepare("test")
    kinds = tuple(type(make_activation(name)) for name in ACTIVATIONS)
    alive: dict[str, Tensor] = {}

    def watch(name: str, module: torch.nn.Module, values: "Tensor") -> None:
        with torch.enable_grad():
            inputs = values.detach().clone().requires_grad_()
            # A copy, because torchvision's activations overwrite their input.
            slope = torch.autograd.grad(module.forward(inputs.clone()).sum(), inputs)[0].abs()
        on = (slope > 1e-3).transpose(0, 1).flatten(1).any(1)
        alive[name] = alive.get(name, torch.zeros_like(on)) | on

    named = [(name, module) for name, module in ready.model.named_modules() if isinstance(module, kinds)]
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: watch(name, module, inputs[0]))
        for name, module in named
    ]
    try:
        ready.evaluate(ready.serve(ready.found.split))
    finally:
        for hook in hooks:
            hook.remove()
    if not alive:
        raise ValueError(f"{run.path}: its network has no activations")
    units = torch.cat([*alive.values()])
    return float((~units).double().mean())


@register("measure", "gradient_field", source="network", low=0, high=math.inf)
def gradient_field(network: Network, options: ShareOptions) -> float:
    """Side of the square around the centre that holds most of the squared gradient of one output, in pixels.

    Measured before training, on random images, as Luo et al., "Understanding the Effective Receptive Field in Deep
    Convolutional Neural Networks" (arXiv:1701.04128), do. The output is the middle of the last feature maps.
    """
    import torch

    from cnnbench.reproducibility import make_generator

    model = network.make_model().eval()
    if not hasattr(model, "features") or len(network.info.input_shape) != 3:
        raise ValueError(
            f"gradient_field: {network.config.model.name} on {network.config.data.name} has no part `features` with "
            "maps of height and width: use a convolutional network for images, such as lenet5"
        )
    source = make_generator(network.config.seed, "gradient field")
    images = torch.randn(32, *network.info.input_shape, generator=source).requires_grad_()
    features = model.get_submodule("features")(images)
    features[:, :, features.shape[2] // 2, features.shape[3] // 2].sum().backward()
    assert images.grad is not None
    return float(_find_side(images.grad.square().sum((0, 1)), options.share))


def _find_side(mass: "Tensor", share: float) -> int:
    """Side of the smallest square around the centre of mass that holds a share of it; `mass` is (H, W)."""
    import torch

    height, width = mass.shape
    total = mass.sum()
    rows, columns = torch.arange(height), torch.arange(width)
    middle = (mass.sum(1) @ rows.float() / total).round(), (mass.sum(0) @ columns.float() / total).round()
    reach = torch.maximum((rows - middle[0]).abs()[:, None], (columns - middle[1]).abs()[None, :])
    inside = [float(mass[reach <= distance].sum() / total) for distance in range(max(height, width))]
    # A reach of 0 is the centre alone, so sides are odd.
    return 2 * next(distance for distance, held in enumerate(inside) if held >= share) + 1
