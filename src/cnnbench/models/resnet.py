"""ResNet for small images, and the plain network it is compared with.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2: a 3×3 stem,
stages of two-convolution blocks, each stage but the first at half the resolution. Shortcuts have no parameters (their
option A), so that `residual=false` is a plain network of exactly as many. The pre-activation form is arXiv:1603.05027.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.config.keys import key
from cnnbench.models.blocks import Classifier, ConvBlock, Residual, Style
from cnnbench.models.spec import COUNTS, ClassifierOptions, Counts, NetworkSpec, Norm
from cnnbench.registry import register

EXPANSION = 4  # of a bottleneck's output over its narrow middle


class ResNetOptions(ClassifierOptions):
    """What `configs/model/resnet_mini.yaml` sets."""

    channels: Counts = key(
        "Filters of each stage; a bottleneck's output has four times as many",
        accepted=COUNTS,
    )
    blocks: int = key(
        "Blocks of each stage; three stages of basic blocks make 6 · blocks · depth + 2 layers", ge=1, le=1000
    )
    block: Literal["basic", "bottleneck"] = key("Two 3×3 convolutions, or 1×1, 3×3, 1×1")
    residual: bool = key("Whether blocks have shortcuts; nothing else changes without them")
    preactivation: bool = key("Norm and activation before each convolution, and nothing after the sum")
    norm: Norm = key("Normalisation of each convolution")


class Shortcut(nn.Module):
    """Every stride-th pixel, and zeros for the missing channels: an identity that fits another shape (option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels = max(0, out_channels - in_channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.added_channels)) if self.added_channels else x


class PreactivatedConv(nn.Module):
    """A norm, an activation and a convolution (He et al., arXiv:1603.05027, figure 4e)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, style: Style, *, stride: int = 1) -> None:
        super().__init__()
        self.norm = style.make_norm(in_channels)
        self.activation = style.make_activation()
        self.conv = style.make_conv(in_channels, out_channels, kernel_size, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.conv(self.activation(self.norm(x)))


def make_residual_block(
    in_channels: int, out_channels: int, stride: int, style: Style, options: ResNetOptions
) -> Residual:
    """A basic block or a bottleneck (figure 5 of the paper), with or without its shortcut."""
    conv: Callable[..., nn.Module] = PreactivatedConv if options.preactivation else ConvBlock
    last_conv = PreactivatedConv if options.preactivation else partial(ConvBlock, activate=False)
    if options.block == "basic":
        body = [
            conv(in_channels, out_channels, 3, style, stride=stride),
            last_conv(out_channels, out_channels, 3, style),
        ]
    else:
        narrow = out_channels // EXPANSION
        body = [
            conv(in_channels, narrow, 1, style),
            conv(narrow, narrow, 3, style, stride=stride),
            last_conv(narrow, out_channels, 1, style),
        ]
    shortcut = Shortcut(in_channels, out_channels, stride) if options.residual else None
    activation = nn.Identity() if options.preactivation else style.make_activation()
    return Residual(nn.Sequential(*body), shortcut, activation)


@register("model", "resnet_mini")
def resnet_mini(spec: NetworkSpec, options: ResNetOptions) -> Classifier:
    """A stem, then a stage of blocks for each of `channels`, the first block of each stage but the first of stride 2.

    `depth` multiplies the blocks of each stage; dropout precedes the last layer.
    """
    style = Style(spec.activation, options.norm)
    expansion = EXPANSION if options.block == "bottleneck" else 1
    channels = spec.scale(options.channels[0])
    features = nn.Sequential()
    # Built even if a block replaces it, because it draws random numbers: each seed keeps its weights.
    stem = style.make_conv(spec.in_channels, channels, 3)
    features.add_module("stem", stem if options.preactivation else ConvBlock(spec.in_channels, channels, 3, style))
    for number, filters in enumerate(map(spec.scale, options.channels), 1):
        stage = nn.Sequential()
        for place in range(options.blocks * spec.depth):
            stride = 2 if place == 0 and number > 1 else 1
            stage.append(make_residual_block(channels, filters * expansion, stride, style, options))
            channels = filters * expansion
        features.add_module(f"stage{number}", stage)
    if options.preactivation:
        # The last sum has passed no norm and no activation (section 3.1 of arXiv:1603.05027).
        features.add_module("norm", style.make_norm(channels))
        features.add_module("activation", style.make_activation())
    return Classifier(features, spec, options.head)
