"""LeNet-5, as the course draws it and as LeCun, Bottou, Bengio and Haffner published it in 1998.

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11). The 1998 form here follows
the usual modern reading: every feature map sees all maps before it, and the last layer is linear.
"""

from functools import partial
from typing import Literal

from torch import nn

from cnnbench.config.keys import key
from cnnbench.models.blocks import Classifier, Style, make_conv_stack, make_pool
from cnnbench.models.spec import ClassifierOptions, Conv, KernelSize, NetworkSpec, Pool
from cnnbench.registry import register


class LeNet5Options(ClassifierOptions):
    """What `configs/model/lenet5.yaml` and `lenet5_1998.yaml` set."""

    kernel_size: KernelSize = key("Height and width of each convolution")
    padding: Literal["same", "valid"] = key("Padding of the first convolution of each stage")
    conv: Conv = key("Kind of the convolutions")
    pool: Pool = key("What shrinks the images after each stage")
    extend_to: int = key("Extend images to this many pixels a side by repeating their border; 0 leaves them", ge=0)


@register("model", "lenet5_1998")  # another yaml: tanh, average pooling, 32×32
@register("model", "lenet5")
def lenet5(spec: NetworkSpec, options: LeNet5Options) -> Classifier:
    """conv 6@5×5, pool, conv 16@5×5, pool, 120, 84, classes.

    On 28×28 grey and 10 classes the course's form has 44,426 parameters, the 1998 form (on 32×32) 61,706. `depth`
    repeats every convolution and every hidden dense layer; dropout follows each hidden dense layer.
    """
    style = Style(spec.activation, options.norm, options.conv)
    conv = partial(
        make_conv_stack, kernel_size=options.kernel_size, style=style, depth=spec.depth, padding=options.padding
    )
    pool = partial(make_pool, options.pool, style=style)
    first, second = spec.scale(6), spec.scale(16)
    features = nn.Sequential()
    missing_rows, missing_columns = (max(0, options.extend_to - side) for side in spec.image_size)
    if missing_rows or missing_columns:
        top, left = missing_rows // 2, missing_columns // 2  # the paper centres 28×28 digits in 32×32
        # By repeating the border, because 0 is not black after normalisation.
        features.add_module("extension", nn.ReplicationPad2d((left, missing_columns - left, top, missing_rows - top)))
    features.add_module("stage1", conv(spec.in_channels, first))
    features.add_module("pool1", pool(first))
    features.add_module("stage2", conv(first, second))
    features.add_module("pool2", pool(second))
    return Classifier(features, spec, options.head, hidden=(spec.scale(120), spec.scale(84)))
