"""Xception for small images: separable convolutions with residual connections.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357: entry blocks that end
in a strided pooling beside a strided 1×1, middle blocks that keep their shape, a wide separable convolution at the end.
Nothing stands between the depthwise and the pointwise half (the paper's section 4.7).
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import activation_layer, classifier, conv_block, conv_layer, needs_bias, norm_layer, scaled
from cnnbench.models.resnet import Residual
from cnnbench.registry import register


def separable(entering: int, leaving: int, *, norm: str) -> nn.Sequential:
    """3×3 on each channel by itself, 1×1 across them, norm."""
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_layer(entering, entering, 3, groups=entering, bias=False),
            pointwise=conv_layer(entering, leaving, 1, bias=needs_bias(norm)),
            norm=norm_layer(norm, leaving),
        )
    )


@register("model", "xception_mini")
def xception_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    stem: int,
    entry: list[int],
    middle: int,
    exit: int,
    norm: str,
    head: str,
) -> nn.Sequential:
    """A stem, entry blocks that halve the resolution, middle blocks, and a separable convolution at the end.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        stem: filters of the first convolution, which is a full one.
        entry: channels of each entry block.
        middle: how many middle blocks, of three separable convolutions each.
        exit: channels of the last convolution.
        width: multiplies all channels.
        depth: multiplies the separable convolutions of each entry block (two), the middle blocks and the last
            convolution.
        dropout: before the last layer.

    Raises:
        ValueError: a name that does not exist, or no entry block.
    """
    if not entry or middle < 0:
        raise ValueError(
            f"model.entry={entry} model.middle={middle}: accepted is at least one entry block, and middle from 0"
        )
    make = partial(separable, norm=norm)

    def activated(layers: list[nn.Module]) -> list[nn.Module]:
        return [part for layer in layers for part in (activation_layer(activation), layer)]

    channels = scaled(stem, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=conv_block(in_channels, channels, 3, norm=norm, activation=None)
    )
    for number, leaving in enumerate([scaled(count, width) for count in entry], 1):
        body = activated([make(channels, leaving), *(make(leaving, leaving) for _ in range(2 * depth - 1))])
        shortcut = conv_block(channels, leaving, 1, stride=2, norm=norm, activation=None)
        layers[f"entry{number}"] = Residual(nn.Sequential(*body, nn.MaxPool2d(3, 2, 1)), shortcut, nn.Identity())
        channels = leaving
    for number in range(1, middle * depth + 1):
        body = activated([make(channels, channels) for _ in range(3)])
        layers[f"middle{number}"] = Residual(nn.Sequential(*body), nn.Identity(), nn.Identity())
    last = scaled(exit, width)
    layers["exit"] = nn.Sequential(
        *activated([make(channels, last), *(make(last, last) for _ in range(depth - 1))]), activation_layer(activation)
    )
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        activation=activation,
        dropout=dropout,
    )
