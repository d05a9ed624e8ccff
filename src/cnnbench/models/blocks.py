"""Blocks that the families share: three kinds of convolution with norm and activation, pooling, residuals, the head."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from cnnbench.models.layers import make_activation, make_dense_stack, make_norm
from cnnbench.models.shapes import compute_output_shape
from cnnbench.models.spec import Conv, Head, NetworkSpec, Norm, Pool


@dataclass(frozen=True)
class Style:
    """The settings that all convolutions of a network share.

    With padding `same`, an axis of n pixels becomes ceil(n / stride), with `valid`
    floor((n − dilation · (kernel_size − 1) − 1) / stride) + 1; `causal` gives the size of `same`, but no output sees a
    later sample.
    """

    activation: str
    norm: Norm = "none"
    conv: Conv = "standard"  # the kind of block that `make_conv_block` makes
    padding: str = "same"
    dimensions: int = 2  # 2 for images, 1 for signals

    @property
    def needs_bias(self) -> bool:
        """Whether a convolution needs a bias."""
        return self.norm in ("none", "lrn")  # the other norms add one of their own

    def make_conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> nn.Module:
        """A convolution with its padding.

        Raises:
            ValueError: groups that do not divide the channels.
        """
        if in_channels % groups or out_channels % groups:
            channels = f"{in_channels} input and {out_channels} output channels"
            raise ValueError(f"groups={groups} does not divide a convolution's {channels}")
        kernel = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * self.dimensions
        # What an axis gains in all. Of an odd number, `same` puts the larger half behind, as torch does.
        totals = [0 if self.padding == "valid" else dilation * (size - 1) for size in kernel]
        before = [total if self.padding == "causal" else total // 2 for total in totals]
        after = [total - first for total, first in zip(totals, before, strict=True)]
        conv: Callable[..., nn.Module] = nn.Conv1d if self.dimensions == 1 else nn.Conv2d
        pad: Callable[..., nn.Module] = nn.ConstantPad1d if self.dimensions == 1 else nn.ConstantPad2d
        options = {"stride": stride, "dilation": dilation, "groups": groups, "bias": self.needs_bias}
        if before == after:
            return conv(in_channels, out_channels, kernel, padding=tuple(before), **options)
        # Torch's convolutions pad both ends equally. A padding layer lists the last axis first.
        pads = tuple(count for ends in zip(reversed(before), reversed(after), strict=True) for count in ends)
        return nn.Sequential(OrderedDict(pad=pad(pads, 0.0), conv=conv(in_channels, out_channels, kernel, **options)))

    def make_norm(self, channels: int) -> nn.Module:
        """The norm behind a convolution of so many output channels."""
        return make_norm(self.norm, channels, self.dimensions)

    def make_activation(self) -> nn.Module:
        """The activation behind a norm."""
        return make_activation(self.activation)


class ConvBlock(nn.Module):
    """A convolution, its norm and its activation; activate=False leaves the activation out, such as before a sum."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style: Style,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = style.make_conv(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups
        )
        self.norm = style.make_norm(out_channels)
        self.activation = style.make_activation() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W'), or (N, C, L) to (N, out_channels, L'); `Style` has the sizes."""
        return self.activation(self.norm(self.conv(x)))


class SeparableBlock(nn.Module):
    """A filter for each channel by itself, then a 1×1 convolution that mixes the channels.

    Howard et al., "MobileNets", arXiv:1704.04861, figure 3: norm and activation behind both.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style: Style, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = style.make_conv(
            in_channels, in_channels, kernel_size, stride=stride, dilation=dilation, groups=in_channels
        )
        self.depthwise_norm = style.make_norm(in_channels)
        self.depthwise_activation = style.make_activation()
        self.pointwise = style.make_conv(in_channels, out_channels, 1)
        self.norm = style.make_norm(out_channels)
        self.activation = style.make_activation()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W'), or (N, C, L) to (N, out_channels, L'); `Style` has the sizes."""
        x = self.depthwise_activation(self.depthwise_norm(self.depthwise(x)))
        return self.activation(self.norm(self.pointwise(x)))


class AsymmetricBlock(nn.Module):
    """A k×1 and a 1×k convolution in place of a k×k one (Szegedy et al., arXiv:1512.00567, section 3.2)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style: Style, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        tall, wide = (kernel_size, 1), (1, kernel_size)
        # Each half strides along one axis: otherwise the first would compute rows that the second skips.
        self.vertical = style.make_conv(in_channels, out_channels, tall, stride=(stride, 1), dilation=dilation)
        self.vertical_norm = style.make_norm(out_channels)
        self.vertical_activation = style.make_activation()
        self.horizontal = style.make_conv(out_channels, out_channels, wide, stride=(1, stride), dilation=dilation)
        self.norm = style.make_norm(out_channels)
        self.activation = style.make_activation()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W'); `Style` has the sizes."""
        x = self.vertical_activation(self.vertical_norm(self.vertical(x)))
        return self.activation(self.norm(self.horizontal(x)))


def make_conv_block(in_channels: int, out_channels: int, kernel_size: int, style: Style, **geometry: int) -> nn.Module:
    """A block of the kind that `style.conv` names.

    Args:
        geometry: stride, dilation, and for `standard` groups.
    """
    if style.conv == "depthwise_separable":
        return SeparableBlock(in_channels, out_channels, kernel_size, style, **geometry)
    if style.conv == "asymmetric" and kernel_size > 1:  # a 1×1 has nothing to factorise
        return AsymmetricBlock(in_channels, out_channels, kernel_size, style, **geometry)
    return ConvBlock(in_channels, out_channels, kernel_size, style, **geometry)  # type: ignore[arg-type]


def make_conv_stack(
    in_channels: int, out_channels: int, kernel_size: int, style: Style, *, depth: int, padding: str = "same"
) -> nn.Sequential:
    """A block with `padding`, then depth − 1 of the same kernel and channels that keep the size."""
    first = make_conv_block(in_channels, out_channels, kernel_size, replace(style, padding=padding))
    more = partial(make_conv_block, out_channels, out_channels, kernel_size, style)
    return nn.Sequential(first, *(more() for _ in range(depth - 1)))


def make_pool(
    name: Pool, channels: int, style: Style, *, window: int = 2, stride: int = 2, padding: int = 0
) -> nn.Module:
    """The layer that shrinks images between two stages; `stride` is a strided 3×3 convolution (arXiv:1412.6806)."""
    match name:
        case "max":
            return nn.MaxPool2d(window, stride, padding)
        case "avg":
            return nn.AvgPool2d(window, stride, padding)
        case "stride":
            return make_conv_block(channels, channels, 3, style, stride=stride)
        case "none":
            return nn.Identity()


class Residual(nn.Module):
    """activation(body(x) + shortcut(x)) (He et al., arXiv:1512.03385, figure 2); without a shortcut, its plain twin."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None, activation: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), or (N, C, L), to the shape that body and shortcut share."""
        y = self.body(x)
        return self.activation(y if self.shortcut is None else y + self.shortcut(x))


class Classifier(nn.Module):
    """Features, and the head that reads the classes from them.

    Args:
        head: `dense` sees every feature at its place, through layers of `hidden` units; `global_average` sees the mean
            of each feature map, with nothing in between (Lin et al., "Network in Network", arXiv:1312.4400).
        hidden: units of the dense layers before the last, each `depth` times, with dropout after each.

    Raises:
        ValueError: the images are too small for the features.
    """

    def __init__(self, features: nn.Module, spec: NetworkSpec, head: Head, hidden: Sequence[int] = ()) -> None:
        # Found by a forward pass, not by a formula per family: any features may come before any head.
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
