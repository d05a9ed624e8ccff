"""Causal dilated convolutions over a signal.

Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
arXiv:1803.01271: residual blocks of two causal convolutions, the dilation doubling from block to block. The paper
reads the class from the last sample, which has seen all before it; the mean over all samples is our default.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from cnnbench.models.layers import Block, activation_layer, classifier, conv_block, scaled
from cnnbench.models.resnet import Residual
from cnnbench.models.stages import check_dilations
from cnnbench.registry import register, unknown

READS = ("last", "mean")
PADDINGS = ("causal", "same")  # a residual block keeps the length


class LastSample(nn.Module):
    """(N, C, L) to (N, C, 1): the last sample of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """The last sample."""
        return x[:, :, -1:]


@register("model", "sequence_cnn")
def sequence_cnn(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    dimensions: int,
    filters: int,
    dilations: list[int],
    kernel_size: int,
    padding: str,
    norm: str,
    read: str,
) -> nn.Sequential:
    """A residual block of two convolutions for each dilation, then the last sample or the mean of all.

    Shapes: signals (N, C, L) to logits (N, num_classes).

    Args:
        image_size: (L,), the samples of a signal.
        filters: of every convolution.
        dilations: the rate of each block; 1, 2, 4 … with a kernel of k samples sees 2·(k − 1)·(sum of them) + 1.
        width: multiplies the filters.
        depth: repeats each block so many times.
        padding: causal (no output sees a later sample) or same.
        read: where the classes are read: at the last sample, or in the mean over all.
        dropout: before the last layer.

    Raises:
        ValueError: images, a name that does not exist, or a signal of which nothing is left.
    """
    if dimensions != 1:
        raise ValueError(
            "model=sequence_cnn takes signals, and the data are images: accepted is data=waves or data=csv_signals"
        )
    if read not in READS:
        raise ValueError(unknown("model.read", read, READS))
    check_dilations(dilations)
    if padding not in PADDINGS:
        raise ValueError(unknown("model.padding", padding, PADDINGS))
    block = partial(conv_block, norm=norm, padding=padding, dimensions=1)
    channels = scaled(filters, width)
    entering = in_channels
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, rate in enumerate(dilations, 1):
        stage = []
        for _ in range(depth):
            stage.append(_residual(entering, channels, kernel_size, rate, block=block, activation=activation))
            entering = channels
        layers[f"block{number}_rate{rate}"] = nn.Sequential(*stage)
    if read == "last":
        layers["last"] = LastSample()
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head="global_average",
        dropout=dropout,
    )


def _residual(entering: int, leaving: int, kernel_size: int, rate: int, *, block: Block, activation: str) -> nn.Module:
    body = nn.Sequential(
        block(entering, leaving, kernel_size, dilation=rate, activation=activation),
        block(leaving, leaving, kernel_size, dilation=rate, activation=None),
    )
    shortcut = nn.Identity() if entering == leaving else block(entering, leaving, 1, activation=None)
    return Residual(body, shortcut, activation_layer(activation))
