"""Causal dilated convolutions over a signal.

Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
arXiv:1803.01271: residual blocks of two causal convolutions, the dilation doubling from block to block. The paper
reads the class from the last sample, which has seen all before it; our default is the mean over all samples.
"""

from typing import Literal

from torch import Tensor, nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, ConvBlock, Residual, Style
from cnnbench.models.spec import COUNTS, Counts, KernelSize, NetworkSpec, NormOptions
from cnnbench.registry import register


class SequenceOptions(NormOptions):
    """What `configs/model/sequence_cnn.yaml` sets."""

    filters: Count = key("Filters of every convolution")
    dilations: Counts = key(
        "Dilation of each block; a kernel of k samples sees 2 · (k − 1) · (their sum) + 1",
        accepted=COUNTS,
    )
    kernel_size: KernelSize = key("Samples that a convolution reads")
    padding: Literal["causal", "same"] = key("causal: no output sees later samples")
    read: Literal["mean", "last"] = key("Read the classes from the mean over all samples, or from the last sample")


class CausalBlock(Residual):
    """Two dilated convolutions beside a shortcut, 1×1 where the channels change (figure 1b of the paper)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int, style: Style) -> None:
        body = nn.Sequential(
            ConvBlock(in_channels, out_channels, kernel_size, style, dilation=dilation),
            ConvBlock(out_channels, out_channels, kernel_size, style, dilation=dilation, activate=False),
        )
        same = in_channels == out_channels
        shortcut = nn.Identity() if same else ConvBlock(in_channels, out_channels, 1, style, activate=False)
        super().__init__(body, shortcut, style.make_activation())


class LastSample(nn.Module):
    """The last sample of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, L) to (N, C, 1)."""
        return x[:, :, -1:]  # with its axis, which the head then averages away


@register("model", "sequence_cnn", dimensions=(1,))
def sequence_cnn(spec: NetworkSpec, options: SequenceOptions) -> Classifier:
    """A residual block for each dilation, then the last sample or the mean of all: signals (N, C, L) to logits.

    `depth` repeats each block; dropout precedes the last layer.
    """
    style = Style(spec.activation, options.norm, padding=options.padding, dimensions=1)
    channels = spec.in_channels
    features = nn.Sequential()
    for number, dilation in enumerate(options.dilations, 1):
        stage = nn.Sequential()
        for _ in range(spec.depth):
            stage.append(CausalBlock(channels, spec.scale(options.filters), options.kernel_size, dilation, style))
            channels = spec.scale(options.filters)
        features.add_module(f"block{number}_rate{dilation}", stage)
    if options.read == "last":
        features.add_module("last", LastSample())
    return Classifier(features, spec, "global_average")
