"""The course's multilayer perceptron: pixels → 128 units → classes."""

import math

from torch import Tensor, nn

from cnnbench.models.layers import make_dense_stack
from cnnbench.models.spec import NetworkSpec
from cnnbench.registry import register


@register("model", "mlp", dimensions=(1, 2))
class MLP(nn.Module):
    """`depth` hidden layers of 128 · width units with dropout; 101,770 parameters on 28×28 grey and 10 classes."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        inputs, units = math.prod(spec.input_shape), spec.scale(128)
        self.flatten = nn.Flatten()
        self.hidden = make_dense_stack(inputs, units, spec)
        self.head = nn.Linear(units, spec.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), or signals (N, C, L), to logits (N, num_classes)."""
        return self.head(self.hidden(self.flatten(images)))
