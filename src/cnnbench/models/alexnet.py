"""AlexNet for small images.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012: ReLU,
local response normalisation after the activation, overlapping max pooling (3 pixels every 2), two hidden dense layers
with dropout. Strides, kernels and filters are cut to what 28 to 64 pixels can bear.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import classifier, conv_block, conv_stack, norm_layer, pool_layer, scaled
from cnnbench.registry import register


@register("model", "alexnet_mini")
def alexnet_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    norm: str,
    pool: str,
    head: str,
) -> nn.Sequential:
    """conv 24@5×5, norm, pool, conv 48@5×5, norm, pool, conv 64, 64, 48@3×3, pool, 256, 256, classes.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        width: multiplies filters and units.
        depth: gives every convolution and every hidden dense layer depth − 1 more of its own size.
        dropout: after each hidden dense layer.
        norm: after the activation of the first two convolutions, as in the paper.

    Raises:
        ValueError: a name that does not exist, or images of which nothing is left before the head.
    """
    block = partial(conv_block, activation=activation)
    filters = [scaled(count, width) for count in (24, 48, 64, 64, 48)]
    shrink = partial(pool_layer, pool, block=block, window=3, stride=2)
    stack = partial(conv_stack, depth=depth, block=block)
    features = OrderedDict(
        stage1=stack(in_channels, filters[0], 5),
        norm1=norm_layer(norm, filters[0]),
        pool1=shrink(filters[0]),
        stage2=stack(filters[0], filters[1], 5),
        norm2=norm_layer(norm, filters[1]),
        pool2=shrink(filters[1]),
        stage3=stack(filters[1], filters[2], 3),
        stage4=stack(filters[2], filters[3], 3),
        stage5=stack(filters[3], filters[4], 3),
        pool3=shrink(filters[4]),
    )
    return classifier(
        nn.Sequential(features),
        (in_channels, *image_size),
        num_classes,
        head=head,
        hidden=(scaled(256, width), scaled(256, width)),
        depth=depth,
        activation=activation,
        dropout=dropout,
    )
