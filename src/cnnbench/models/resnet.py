"""ResNet for small images, and the plain network it is compared with.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2: a 3×3 stem,
stages of two-convolution blocks, each stage but the first at half the resolution. Shortcuts have no parameters (their
option A), so that `residual=false` is a plain network of exactly as many. The pre-activation form is arXiv:1603.05027.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.models.layers import (
    Block,
    activation_layer,
    classifier,
    conv_block,
    conv_layer,
    needs_bias,
    norm_layer,
    scaled,
)
from cnnbench.registry import register, unknown

BLOCKS = ("basic", "bottleneck")
EXPANSION = 4  # of a bottleneck's output over its narrow middle


class Shortcut(nn.Module):
    """Every stride-th pixel, and zeros for the channels that are missing: an identity that fits another shape.

    Shapes: (N, C, H, W) to (N, C + added_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels = added_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """The input, thinned out and filled up."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.added_channels)) if self.added_channels else x


class Residual(nn.Module):
    """activation(body(x) + shortcut(x)); without a shortcut activation(body(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None, activation: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = self.body(x)
        return self.activation(y if self.shortcut is None else y + self.shortcut(x))


def _layers(block: str, entering: int, leaving: int, stride: int) -> list[tuple[int, int, int, int]]:
    """In-channels, out-channels, kernel and stride of a block's convolutions."""
    if block == "basic":
        return [(entering, leaving, 3, stride), (leaving, leaving, 3, 1)]
    middle = leaving // EXPANSION
    return [(entering, middle, 1, 1), (middle, middle, 3, stride), (middle, leaving, 1, 1)]


def _body(convolutions: list[tuple[int, int, int, int]], block: Block, activation: str) -> nn.Sequential:
    *inner, last = convolutions
    blocks = [block(*layer[:3], stride=layer[3], activation=activation) for layer in inner]
    return nn.Sequential(*blocks, block(*last[:3], stride=last[3], activation=None))


def _preactivated_body(convolutions: list[tuple[int, int, int, int]], norm: str, activation: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (entering, leaving, kernel_size, stride) in enumerate(convolutions, 1):
        layers[f"norm{number}"] = norm_layer(norm, entering)
        layers[f"activation{number}"] = activation_layer(activation)
        layers[f"conv{number}"] = conv_layer(entering, leaving, kernel_size, stride=stride, bias=needs_bias(norm))
    return nn.Sequential(layers)


@register("model", "resnet_mini")
def resnet_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    channels: list[int],
    blocks: int,
    block: str,
    residual: bool,
    preactivation: bool,
    norm: str,
    head: str,
) -> nn.Sequential:
    """A stem and a stage for each of `channels`, of `blocks` blocks each.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        channels: filters of each stage; a bottleneck's output has four times as many.
        width: multiplies them.
        depth: multiplies the blocks of each stage. With three stages of basic blocks there are 6 · blocks · depth + 2
            layers with weights.
        block: basic (two 3×3) or bottleneck (1×1, 3×3, 1×1).
        residual: false leaves the shortcuts out, and changes nothing else.
        preactivation: norm and activation before each convolution, nothing after the sum.
        dropout: before the last layer.

    Raises:
        ValueError: a name that does not exist, or no stage or block.
    """
    if block not in BLOCKS:
        raise ValueError(unknown("model.block", block, BLOCKS))
    if not channels or blocks < 1:
        raise ValueError(
            f"model.channels={channels} model.blocks={blocks}: accepted is at least one stage and one block"
        )
    make = partial(conv_block, norm=norm)
    entering = scaled(channels[0], width)
    stem = conv_layer(in_channels, entering, 3, bias=needs_bias(norm))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=stem if preactivation else make(in_channels, entering, 3, activation=activation)
    )
    for number, filters in enumerate([scaled(count, width) for count in channels], 1):
        leaving = filters * (EXPANSION if block == "bottleneck" else 1)
        stage = []
        for place in range(blocks * depth):
            stride = 2 if place == 0 and number > 1 else 1
            convolutions = _layers(block, entering, leaving, stride)
            body = (
                _preactivated_body(convolutions, norm, activation)
                if preactivation
                else _body(convolutions, make, activation)
            )
            shortcut = Shortcut(max(0, leaving - entering), stride) if residual else None
            stage.append(Residual(body, shortcut, nn.Identity() if preactivation else activation_layer(activation)))
            entering = leaving
        layers[f"stage{number}"] = nn.Sequential(*stage)
    if preactivation:
        layers["norm"] = norm_layer(norm, entering)
        layers["activation"] = activation_layer(activation)
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        activation=activation,
        dropout=dropout,
    )
