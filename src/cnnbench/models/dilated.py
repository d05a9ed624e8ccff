"""Dilated convolutions in place of downsampling: the receptive field grows, the resolution stays.

Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", arXiv:1511.07122. The hybrid schedule
is that of Wang et al., "Understanding Convolution for Semantic Segmentation", arXiv:1702.08502.
"""

from itertools import cycle, islice

from torch import nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, ConvBlock, Style, make_conv_block
from cnnbench.models.spec import COUNTS, ClassifierOptions, Conv, Counts, KernelSize, NetworkSpec
from cnnbench.registry import register

HYBRID = (1, 2, 5)  # without a common factor, so that no pixel between the taps is left out (gridding)


class DilatedOptions(ClassifierOptions):
    """What `configs/model/dilated_cnn.yaml` sets."""

    filters: Count = key("Filters of every convolution")
    dilations: Counts = key("Dilation of each layer", accepted=COUNTS)
    hybrid: bool = key("Use dilations 1, 2, 5, 1, 2, 5, … instead, for as many layers")
    kernel_size: KernelSize = key("Height and width of each convolution")
    conv: Conv = key("Kind of the dilated convolutions")


@register("model", "dilated_cnn")
def dilated_cnn(spec: NetworkSpec, options: DilatedOptions) -> Classifier:
    """A plain convolution, then one for each dilation, all at the resolution of the images.

    `depth` repeats each dilated layer; dropout precedes the last layer.
    """
    channels, kernel_size = spec.scale(options.filters), options.kernel_size
    style = Style(spec.activation, options.norm, options.conv)
    rates = islice(cycle(HYBRID), len(options.dilations)) if options.hybrid else options.dilations
    features = nn.Sequential()
    features.add_module("stem", ConvBlock(spec.in_channels, channels, kernel_size, style))
    for number, rate in enumerate(rates, 1):
        blocks = [make_conv_block(channels, channels, kernel_size, style, dilation=rate) for _ in range(spec.depth)]
        features.add_module(f"dilated{number}_rate{rate}", nn.Sequential(*blocks))
    return Classifier(features, spec, options.head)
