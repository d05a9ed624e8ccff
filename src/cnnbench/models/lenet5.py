"""LeNet-5, as the course draws it and as LeCun, Bottou, Bengio and Haffner published it in 1998.

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11). The 1998 form here follows
the usual modern reading: every feature map sees all maps before it, and the last layer is linear.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from cnnbench.models.layers import classifier, conv_block, conv_stack, pool_layer, scaled
from cnnbench.registry import register


@register("model", "lenet5_1998")  # another yaml: tanh, average pooling, 32×32
@register("model", "lenet5")
def lenet5(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    kernel_size: int,
    padding: str,
    conv: str,
    norm: str,
    pool: str,
    head: str,
    extend_to: int,
) -> nn.Sequential:
    """conv 6@5×5, pool, conv 16@5×5, pool, 120, 84, classes.

    On 28×28 grey and 10 classes the course's form has 44,426 parameters, the 1998 form (on 32×32) 61,706.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        width: multiplies the 6 and 16 filters and the 120 and 84 units.
        depth: adds depth − 1 convolutions that keep the size before each pooling, and depth − 1 dense layers of
            their own size after each hidden dense layer.
        dropout: after each hidden dense layer.
        padding: of the first convolution of each stage.
        extend_to: sides of fewer pixels are extended to this many by repeating the border; the paper centres 28×28
            digits in 32×32.

    Raises:
        ValueError: a name that does not exist, or images of which nothing is left before the head.
    """
    block = partial(conv_block, activation=activation, norm=norm, conv=conv)
    filters = scaled(6, width), scaled(16, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    missing = [max(0, extend_to - side) for side in image_size]
    if any(missing):
        (top, bottom), (left, right) = ((side // 2, side - side // 2) for side in missing)
        layers["extension"] = nn.ReplicationPad2d((left, right, top, bottom))
    for number, (entering, leaving) in enumerate(((in_channels, filters[0]), filters), 1):
        layers[f"stage{number}"] = conv_stack(entering, leaving, kernel_size, depth=depth, block=block, padding=padding)
        layers[f"pool{number}"] = pool_layer(pool, leaving, block=block)
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        hidden=(scaled(120, width), scaled(84, width)),
        depth=depth,
        activation=activation,
        dropout=dropout,
    )
