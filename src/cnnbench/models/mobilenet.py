"""MobileNet for small images: depthwise separable convolutions throughout.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv:1704.04861.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import classifier, conv_block, scaled
from cnnbench.models.stages import check_stages
from cnnbench.registry import register


@register("model", "mobilenet_mini")
def mobilenet_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    stem: int,
    stages: list[list[int]],
    kernel_size: int,
    conv: str,
    norm: str,
    head: str,
) -> nn.Sequential:
    """A 3×3 stem, then stages of separable convolutions; the first of each stage halves the resolution.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        stem: filters of the first convolution, which is a full one.
        stages: for each stage the filters of its convolutions.
        width: multiplies all filters (the paper's α).
        depth: repeats every separable convolution so many times.
        conv: depthwise_separable; standard is the network it is compared with in the paper's table 4.
        dropout: before the last layer.

    Raises:
        ValueError: a name that does not exist, or no stage.
    """
    check_stages(stages)
    block = partial(conv_block, activation=activation, norm=norm)
    entering = scaled(stem, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=block(in_channels, entering, 3))
    for number, filters in enumerate(stages, 1):
        stage = []
        for place, leaving in enumerate([scaled(count, width) for count in filters for _ in range(depth)]):
            stage.append(block(entering, leaving, kernel_size, conv=conv, stride=2 if place == 0 else 1))
            entering = leaving
        layers[f"stage{number}"] = nn.Sequential(*stage)
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        activation=activation,
        dropout=dropout,
    )
