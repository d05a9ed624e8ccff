"""Xception for small images: separable convolutions with residual connections.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357: entry blocks that end
in a strided pooling beside a strided 1×1, middle blocks that keep their shape, a wide separable convolution at the end.
"""

from torch import Tensor, nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, ConvBlock, Residual, Style
from cnnbench.models.spec import COUNTS, ClassifierOptions, Counts, NetworkSpec
from cnnbench.registry import register


class XceptionOptions(ClassifierOptions):
    """What `configs/model/xception_mini.yaml` sets."""

    stem: Count = key("Filters of the first convolution, which is not separable")
    entry: Counts = key("Channels of each entry block", accepted=COUNTS)
    middle: int = key("Number of middle blocks", ge=0, le=1000)
    exit: Count = key("Channels of the last convolution")


class SeparableConv(nn.Module):
    """3×3 on each channel by itself, 1×1 across the channels, norm."""

    def __init__(self, in_channels: int, out_channels: int, style: Style) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = style.make_conv(in_channels, out_channels, 1)
        self.norm = style.make_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        # Unlike in MobileNet, no activation between the two halves (the paper's section 4.7).
        return self.norm(self.pointwise(self.depthwise(x)))


def make_separable_convs(in_channels: int, out_channels: int, count: int, style: Style) -> list[nn.Module]:
    """`count` separable convolutions, each behind its activation, as in all of the paper's figure 5."""
    layers: list[nn.Module] = []
    for channels in [in_channels] + [out_channels] * (count - 1):
        layers += [style.make_activation(), SeparableConv(channels, out_channels, style)]
    return layers


class EntryBlock(Residual):
    """Separable convolutions and a pooling of stride 2 beside a 1×1 of stride 2."""

    def __init__(self, in_channels: int, out_channels: int, count: int, style: Style) -> None:
        body = nn.Sequential(*make_separable_convs(in_channels, out_channels, count, style), nn.MaxPool2d(3, 2, 1))
        shortcut = ConvBlock(in_channels, out_channels, 1, style, stride=2, activate=False)
        super().__init__(body, shortcut, nn.Identity())


class MiddleBlock(Residual):
    """Three separable convolutions beside an identity."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__(
            nn.Sequential(*make_separable_convs(channels, channels, 3, style)), nn.Identity(), nn.Identity()
        )


@register("model", "xception_mini")
def xception_mini(spec: NetworkSpec, options: XceptionOptions) -> Classifier:
    """A stem, entry blocks that halve the resolution, middle blocks, and a separable convolution at the end.

    `depth` multiplies the separable convolutions of each entry block (two), the middle blocks and the last convolution;
    dropout precedes the last layer.
    """
    style = Style(spec.activation, options.norm)
    channels = spec.scale(options.stem)
    features = nn.Sequential()
    features.add_module("stem", ConvBlock(spec.in_channels, channels, 3, style, activate=False))
    for number, leaving in enumerate(map(spec.scale, options.entry), 1):
        features.add_module(f"entry{number}", EntryBlock(channels, leaving, 2 * spec.depth, style))
        channels = leaving
    for number in range(1, options.middle * spec.depth + 1):
        features.add_module(f"middle{number}", MiddleBlock(channels, style))
    last = make_separable_convs(channels, spec.scale(options.exit), spec.depth, style)
    features.add_module("exit", nn.Sequential(*last, style.make_activation()))
    return Classifier(features, spec, options.head)
