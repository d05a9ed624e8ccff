"""MobileNet for small images: depthwise separable convolutions throughout.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv:1704.04861.
"""

from torch import nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, ConvBlock, Style, make_conv_block
from cnnbench.models.spec import STAGES, ClassifierOptions, Conv, KernelSize, NetworkSpec, Stages
from cnnbench.registry import register


class MobileNetOptions(ClassifierOptions):
    """What `configs/model/mobilenet_mini.yaml` sets."""

    stem: Count = key("Filters of the first convolution, which is not separable")
    stages: Stages = key("Filters of each convolution, a list per stage", accepted=STAGES)
    kernel_size: KernelSize = key("Height and width of the stages' convolutions")
    conv: Conv = key("Kind of the convolutions; the paper's table 4 compares with standard")


@register("model", "mobilenet_mini")
def mobilenet_mini(spec: NetworkSpec, options: MobileNetOptions) -> Classifier:
    """A 3×3 stem, then stages of separable convolutions; the first of each stage halves the resolution.

    `width` is the paper's α; `depth` repeats every separable convolution; dropout precedes the last layer.
    """
    style = Style(spec.activation, options.norm, options.conv)
    channels = spec.scale(options.stem)
    features = nn.Sequential()
    features.add_module("stem", ConvBlock(spec.in_channels, channels, 3, style))
    for number, filters in enumerate(options.stages, 1):
        stage = nn.Sequential()
        for place, leaving in enumerate([spec.scale(count) for count in filters for _ in range(spec.depth)]):
            stride = 2 if place == 0 else 1  # once a stage, however deep it is
            stage.append(make_conv_block(channels, leaving, options.kernel_size, style, stride=stride))
            channels = leaving
        features.add_module(f"stage{number}", stage)
    return Classifier(features, spec, options.head)
