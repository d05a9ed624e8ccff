"""The course's multilayer perceptron: pixels → 128 units → classes."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models.layers import dense_stack, scaled
from cnnbench.registry import register


@register("model", "mlp")
class MLP(nn.Module):
    """A perceptron with `depth` hidden layers of 128 · width units; 101,770 parameters on 28×28 grey and 10 classes.

    Shapes: images (N, C, H, W), or signals (N, C, L), to logits (N, num_classes).

    Args:
        image_size: (H, W) of images, (L,) of signals.
        dimensions: how many numbers image_size has.
        dropout: after each hidden layer.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Sequence[int],
        num_classes: int,
        width: float,
        depth: int,
        activation: str,
        dropout: float,
        dimensions: int,
    ) -> None:
        super().__init__()
        units = scaled(128, width)
        self.flatten = nn.Flatten()
        self.hidden = dense_stack(
            in_channels * math.prod(image_size), units, depth=depth, activation=activation, dropout=dropout
        )
        self.head = nn.Linear(units, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.head(self.hidden(self.flatten(images)))
