"""Heads: from features to classes."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from cnnbench.models.choices import Head
from cnnbench.models.layers import make_dense_stack
from cnnbench.models.network import NetworkSpec
from cnnbench.models.shapes import compute_output_shape


class Classifier(nn.Module):
    """Features, and the head that reads the classes from them.

    Args:
        head: `dense` sees every feature at its place, through layers of `hidden` units; `global_average` sees the mean
            of each feature map, with nothing in between (Lin et al., "Network in Network", arXiv:1312.4400).
        hidden: units of the dense layers before the last, each `depth` times, dropout after each of them.

    Raises:
        ValueError: images of which the features leave nothing.
    """

    def __init__(self, features: nn.Module, spec: NetworkSpec, head: Head, hidden: Sequence[int] = ()) -> None:
        # Found by a pass on the meta device, not by a formula per family: any features may come before any head.
        channels, *sides = compute_output_shape(features, spec.input_shape)
        super().__init__()
        self.features = features
        self.head = nn.Sequential()
        if head == "global_average":
            inputs = channels
            self.head.add_module("pool", nn.AdaptiveAvgPool1d(1) if len(sides) == 1 else nn.AdaptiveAvgPool2d(1))
            self.head.add_module("flatten", nn.Flatten())
            if spec.dropout > 0:
                self.head.add_module("dropout", nn.Dropout(spec.dropout))
        else:
            inputs = channels * math.prod(sides)
            self.head.add_module("flatten", nn.Flatten())
            for number, units in enumerate(hidden, 1):
                self.head.add_module(f"hidden{number}", make_dense_stack(inputs, units, spec))
                inputs = units
        self.head.add_module("classes", nn.Linear(inputs, spec.num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), or signals (N, C, L), to logits (N, num_classes)."""
        return self.head(self.features(images))
