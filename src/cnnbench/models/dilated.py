"""Dilated convolutions in place of downsampling: the receptive field grows, the resolution stays.

Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", arXiv:1511.07122. The hybrid schedule
is that of Wang et al., "Understanding Convolution for Semantic Segmentation", arXiv:1702.08502: rates without a common
factor, so that no pixel between the taps is left out (gridding).
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice

from torch import nn

from cnnbench.models.layers import classifier, conv_block, scaled
from cnnbench.models.stages import check_dilations
from cnnbench.registry import register

HYBRID = (1, 2, 5)


@register("model", "dilated_cnn")
def dilated_cnn(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    filters: int,
    dilations: list[int],
    hybrid: bool,
    kernel_size: int,
    conv: str,
    norm: str,
    head: str,
) -> nn.Sequential:
    """A plain convolution, then one for each dilation, all at the resolution of the images.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        filters: of every convolution.
        dilations: the rate of each layer, such as 1, 2, 4, 8.
        hybrid: use 1, 2, 5, 1, 2, 5 … for as many layers in its place.
        width: multiplies the filters.
        depth: repeats each dilated layer so many times.
        dropout: before the last layer.

    Raises:
        ValueError: a name that does not exist, or a dilation below 1.
    """
    check_dilations(dilations)
    rates = list(islice(cycle(HYBRID), len(dilations))) if hybrid else dilations
    channels = scaled(filters, width)
    block = partial(conv_block, activation=activation, norm=norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=block(in_channels, channels, kernel_size))
    for number, rate in enumerate(rates, 1):
        layers[f"dilated{number}_rate{rate}"] = nn.Sequential(
            *[block(channels, channels, kernel_size, dilation=rate, conv=conv) for _ in range(depth)]
        )
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        activation=activation,
        dropout=dropout,
    )
