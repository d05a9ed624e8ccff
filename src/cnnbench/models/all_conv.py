"""A network of convolutions only: strides shrink the images, a 1×1 convolution gives class maps, and a mean ends it.

Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", arXiv:1412.6806
(All-CNN-C, cut to small images).
"""

from torch import nn

from cnnbench.config.keys import key
from cnnbench.models.blocks import ConvBlock, Style, make_conv_stack, make_pool
from cnnbench.models.shapes import compute_output_shape
from cnnbench.models.spec import COUNTS, Counts, KernelSize, NetworkSpec, NormOptions, Pool
from cnnbench.registry import register


class AllConvOptions(NormOptions):
    """What `configs/model/all_conv.yaml` sets."""

    channels: Counts = key("Filters of each stage", accepted=COUNTS)
    kernel_size: KernelSize = key("Height and width of the stages' convolutions")
    pool: Pool = key("What shrinks the images: the paper uses stride, and compares with max and avg")


@register("model", "all_conv")
def all_conv(spec: NetworkSpec, options: AllConvOptions) -> nn.Sequential:
    """Two convolutions and a strided one per stage, then 3×3, 1×1 and 1×1 to the classes, averaged over the image.

    `depth` repeats every convolution before a shrinking one; dropout follows each stage, on single values.
    """
    style = Style(spec.activation, options.norm)
    channels = spec.in_channels
    layers = nn.Sequential()
    for number, filters in enumerate(map(spec.scale, options.channels), 1):
        stage = nn.Sequential(
            make_conv_stack(channels, filters, options.kernel_size, style, depth=spec.depth),
            make_conv_stack(filters, filters, options.kernel_size, style, depth=spec.depth),
        )
        layers.add_module(f"stage{number}", stage)
        layers.add_module(f"pool{number}", make_pool(options.pool, filters, style))
        if spec.dropout > 0:
            layers.add_module(f"dropout{number}", nn.Dropout(spec.dropout))
        channels = filters
    layers.add_module("mix", ConvBlock(channels, channels, 3, style))
    layers.add_module("mix1x1", ConvBlock(channels, channels, 1, style))
    layers.add_module("classes", nn.Conv2d(channels, spec.num_classes, 1))
    compute_output_shape(layers, spec.input_shape)  # refuses images that are too small: the mean would accept them
    layers.add_module("mean", nn.AdaptiveAvgPool2d(1))
    layers.add_module("flatten", nn.Flatten())
    return layers
