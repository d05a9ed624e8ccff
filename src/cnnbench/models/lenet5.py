"""LeNet-5, as the course draws it and as LeCun, Bottou, Bengio and Haffner published it in 1998.

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11). The 1998 form here follows
the usual modern reading: every feature map sees all maps before it, and the last layer is linear.
"""

from collections.abc import Callable

from torch import Tensor, nn

from cnnbench.models.layers import conv_stack, dense_stack, scaled
from cnnbench.registry import register


class LeNet5(nn.Module):
    """conv 6@5×5, pool, conv 16@5×5, pool, 120, 84, classes.

    Shapes: images (N, C, H, W) with H = W to logits (N, num_classes).

    Args:
        width: multiplies the 6 and 16 filters and the 120 and 84 units.
        depth: adds depth − 1 convolutions that keep the size before each pooling, and depth − 1 dense layers of
            their own size after each hidden dense layer.
        dropout: after each hidden dense layer.
        pool: makes a pooling layer from its window.
        extend_to: images of fewer pixels are extended to this size by repeating their border.

    Raises:
        ValueError: images of which nothing is left after the second pooling.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        width: float,
        depth: int,
        activation: str,
        dropout: float,
        *,
        pool: Callable[[int], nn.Module],
        extend_to: int,
    ) -> None:
        super().__init__()
        missing = max(0, extend_to - image_size)
        side = ((image_size + missing - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(
                f"data.image_size={image_size} is too small for lenet5: two unpadded 5×5 convolutions and two "
                "poolings leave nothing of it. Accepted is 16 or more"
            )
        filters = scaled(6, width), scaled(16, width)
        units = scaled(120, width), scaled(84, width)
        before, after = missing // 2, missing - missing // 2
        self.extend = nn.ReplicationPad2d((before, after, before, after)) if missing else nn.Identity()
        self.features = nn.Sequential(
            conv_stack(in_channels, filters[0], 5, depth=depth, activation=activation),
            pool(2),
            conv_stack(filters[0], filters[1], 5, depth=depth, activation=activation),
            pool(2),
        )
        self.hidden = nn.Sequential(
            nn.Flatten(),
            dense_stack(filters[1] * side**2, units[0], depth=depth, activation=activation, dropout=dropout),
            dense_stack(units[0], units[1], depth=depth, activation=activation, dropout=dropout),
        )
        self.head = nn.Linear(units[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.head(self.hidden(self.features(self.extend(images))))


@register("model", "lenet5")
def lenet5(
    in_channels: int,
    image_size: int,
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
) -> LeNet5:
    """The course's form, with max pooling: 44,426 parameters on 28×28 grey and 10 classes."""
    return LeNet5(
        in_channels,
        image_size,
        num_classes,
        width,
        depth,
        activation,
        dropout,
        pool=nn.MaxPool2d,
        extend_to=0,
    )


@register("model", "lenet5_1998")
def lenet5_1998(
    in_channels: int,
    image_size: int,
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
) -> LeNet5:
    """The 1998 form, with average pooling and (in its yaml) tanh: 61,706 parameters at 32×32 grey and 10 classes.

    28×28 digits are centred in 32×32, as in the paper.
    """
    return LeNet5(
        in_channels,
        image_size,
        num_classes,
        width,
        depth,
        activation,
        dropout,
        pool=nn.AvgPool2d,
        extend_to=32,
    )
