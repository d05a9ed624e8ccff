"""A network of convolutions alone: strides shrink the images, a 1×1 convolution names the classes, a mean ends it.

Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", arXiv:1412.6806
(All-CNN-C, cut to small images).
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import conv_block, conv_stack, pool_layer, scaled
from cnnbench.models.shapes import output_shape
from cnnbench.registry import register


@register("model", "all_conv")
def all_conv(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    channels: list[int],
    kernel_size: int,
    norm: str,
    pool: str,
) -> nn.Sequential:
    """Two convolutions and a shrinking one a stage, then 3×3, 1×1 and 1×1 to the classes, averaged over the image.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        channels: filters of each stage.
        width: multiplies them.
        depth: repeats every convolution before a shrinking one so many times.
        dropout: after each stage, on single values.
        pool: `stride` is the paper's; max and avg are what it was compared with.

    Raises:
        ValueError: a name that does not exist, or images of which nothing is left.
    """
    block = partial(conv_block, activation=activation, norm=norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    entering = in_channels
    for number, filters in enumerate([scaled(count, width) for count in channels], 1):
        layers[f"stage{number}"] = nn.Sequential(
            conv_stack(entering, filters, kernel_size, depth=depth, block=block),
            conv_stack(filters, filters, kernel_size, depth=depth, block=block),
        )
        layers[f"pool{number}"] = pool_layer(pool, filters, block=block)
        if dropout > 0:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        entering = filters
    layers["mix"] = block(entering, entering, 3)
    layers["mix1x1"] = block(entering, entering, 1)
    layers["classes"] = nn.Conv2d(entering, num_classes, 1)
    output_shape(nn.Sequential(layers), (in_channels, *image_size))
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)
