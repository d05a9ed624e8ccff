"""VGG for small images: stages of 3×3 convolutions, each stage followed by a pooling.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556. Batch
normalisation, which came later, is on in the yaml; `model.norm=none` is the paper's. The same code, with k×1 and 1×k in
place of k×k, is `asymmetric_cnn` (Szegedy et al., arXiv:1512.00567, section 3.2).
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import classifier, conv_block, pool_layer, scaled
from cnnbench.models.stages import check_stages
from cnnbench.registry import register


@register("model", "asymmetric_cnn")
@register("model", "vgg_mini")
def vgg_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    stages: list[list[int]],
    hidden: list[int],
    kernel_size: int,
    padding: str,
    conv: str,
    groups: int,
    norm: str,
    pool: str,
    head: str,
) -> nn.Sequential:
    """Stages of equal convolutions, a pooling after each.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        stages: for each stage the filters of its convolutions; `[[64], [128], [256, 256]]` and so on is VGG-11's way.
        hidden: units of the dense layers before the last; without effect where `head` is global_average.
        width: multiplies filters and units.
        depth: repeats every convolution and every hidden dense layer so many times.
        dropout: after each hidden dense layer.
        groups: of every convolution but the first.

    Raises:
        ValueError: a name that does not exist, groups that do not divide, or images of which nothing is left.
    """
    check_stages(stages)
    block = partial(conv_block, activation=activation, norm=norm, conv=conv, padding=padding)
    channels = in_channels
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, filters in enumerate(stages, 1):
        blocks = []
        for count in [scaled(count, width) for count in filters for _ in range(depth)]:
            blocks.append(block(channels, count, kernel_size, groups=1 if channels == in_channels else groups))
            channels = count
        layers[f"stage{number}"] = nn.Sequential(*blocks)
        layers[f"pool{number}"] = pool_layer(pool, channels, block=block)
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        hidden=[scaled(units, width) for units in hidden],
        depth=depth,
        activation=activation,
        dropout=dropout,
    )
