"""AlexNet for small images.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012: ReLU,
local response normalisation, two hidden dense layers with dropout. Strides, kernels and filters are cut to suit images
of 28 to 64 pixels.
"""

from collections import OrderedDict
from functools import partial

from torch import nn

from cnnbench.config.keys import key
from cnnbench.models.blocks import Classifier, Style, make_conv_stack, make_pool
from cnnbench.models.layers import make_norm
from cnnbench.models.spec import ClassifierOptions, NetworkSpec, Norm, Pool
from cnnbench.registry import register


class AlexNetOptions(ClassifierOptions):
    """What `configs/model/alexnet_mini.yaml` sets."""

    norm: Norm = key("Normalisation after the activation of the first two convolutions; lrn is the paper's")
    pool: Pool = key("What shrinks the images between stages")


@register("model", "alexnet_mini")
def alexnet_mini(spec: NetworkSpec, options: AlexNetOptions) -> Classifier:
    """conv 24@5×5, norm, pool, conv 48@5×5, norm, pool, conv 64, 64, 48@3×3, pool, 256, 256, classes.

    `depth` repeats every convolution and every hidden dense layer; dropout follows each hidden dense layer.
    """
    style = Style(spec.activation)
    conv = partial(make_conv_stack, style=style, depth=spec.depth)
    pool = partial(make_pool, options.pool, style=style, window=3, stride=2)  # windows overlap, as in the paper
    first, second, third, fourth, fifth = map(spec.scale, (24, 48, 64, 64, 48))
    features = OrderedDict(
        stage1=conv(spec.in_channels, first, 5),
        norm1=make_norm(options.norm, first),  # after the activation, unlike the norms of later families
        pool1=pool(first),
        stage2=conv(first, second, 5),
        norm2=make_norm(options.norm, second),
        pool2=pool(second),
        stage3=conv(second, third, 3),
        stage4=conv(third, fourth, 3),
        stage5=conv(fourth, fifth, 3),
        pool3=pool(fifth),
    )
    return Classifier(nn.Sequential(features), spec, options.head, hidden=(spec.scale(256), spec.scale(256)))
