"""Building blocks that the families share: convolutions with their norm and activation, pooling, dense layers, heads.

A family takes the names a user chose (`norm="batch"`, `conv="depthwise_separable"` …) and hands them to these
functions, which refuse what does not exist. Most take `dimensions`: 2 for images (N, C, H, W), 1 for signals (N, C, L).
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbench.models.shapes import output_shape
from cnnbench.registry import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
NORMS = ("none", "batch", "layer", "instance", "group", "lrn")
CONVS = ("standard", "depthwise_separable", "asymmetric")
PADDINGS = ("same", "valid", "causal")
POOLS = ("max", "avg", "stride", "none")
HEADS = ("dense", "global_average")
LARGEST_KERNEL = 7
MOST_GROUPS = 8  # of group normalisation; fewer where the channels do not divide

Block = Callable[..., nn.Sequential]  # `conv_block` with a family's norm, activation … already given


def activation_layer(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    try:
        return ACTIVATIONS[name]()
    except KeyError:
        raise ValueError(unknown("model.activation", name, ACTIVATIONS)) from None


class LocalResponseNorm(nn.Module):
    """AlexNet's normalisation: x / (2 + 1e-4 / 5 · sum of squares over 5 neighbouring channels)^0.75.

    Krizhevsky, Sutskever and Hinton, 2012, section 3.3. Equal to torch's layer of that name with these constants, which
    sums through a 3-D pooling and takes more than twice as long on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) to the same shape."""
        channels = x.shape[1]
        squares = F.pad(x.square(), (0, 0) * (x.dim() - 2) + (2, 2))
        total = squares[:, :channels]
        for shift in range(1, 5):
            total = total + squares[:, shift : shift + channels]
        root = (2.0 + 1e-4 / 5 * total).rsqrt()
        return x * root * root.sqrt()


def norm_layer(name: str, channels: int, *, dimensions: int = 2) -> nn.Module:
    """A normalisation over images or signals of `channels` channels.

    `layer` normalises each image over all its channels and pixels, `group` over groups of channels (8, or the largest
    power of two below that divides them), `instance` over each channel alone, `lrn` over 5 neighbouring channels.

    Raises:
        ValueError: unknown name.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm1d(channels) if dimensions == 1 else nn.BatchNorm2d(channels)
    if name == "instance":
        kind = nn.InstanceNorm1d if dimensions == 1 else nn.InstanceNorm2d
        return kind(channels, affine=True)
    if name in ("layer", "group"):
        return nn.GroupNorm(1 if name == "layer" else math.gcd(MOST_GROUPS, channels), channels)
    if name == "lrn":
        return LocalResponseNorm()
    raise ValueError(unknown("model.norm", name, NORMS))


def needs_bias(norm: str) -> bool:
    """Whether a convolution before this norm needs a bias: the others shift by themselves, which makes one idle."""
    return norm in ("none", "lrn")


def conv_layer(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, ...],
    *,
    stride: int | tuple[int, ...] = 1,
    dilation: int = 1,
    padding: str = "same",
    groups: int = 1,
    bias: bool = True,
    dimensions: int = 2,
) -> nn.Module:
    """One convolution with its padding.

    Shapes: with `same` an axis of n pixels becomes ceil(n / stride); with `valid` it becomes
    floor((n − dilation·(kernel_size − 1) − 1) / stride) + 1; `causal` is as long as `same`, and no output sees a later
    sample.

    Raises:
        ValueError: a kernel, padding or number of groups that cannot be.
    """
    sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * dimensions
    for size in sizes:
        if not 1 <= size <= LARGEST_KERNEL:
            raise ValueError(f"model.kernel_size={size}: accepted is a whole number from 1 to {LARGEST_KERNEL}")
    if dilation < 1:
        raise ValueError(f"dilation={dilation}: accepted is a whole number from 1")
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"groups={groups} does not divide a convolution's {in_channels} input and {out_channels} output channels"
        )
    before, after = [], []
    for size in sizes:
        total = 0 if padding == "valid" else dilation * (size - 1)
        before.append(total if padding == "causal" else total // 2)
        after.append(total - before[-1])
    if padding not in PADDINGS:
        raise ValueError(unknown("model.padding", padding, PADDINGS))
    if padding == "causal" and dimensions != 1:
        raise ValueError(
            "model.padding=causal is for signals, where one sample follows another: accepted is same, valid"
        )
    kind: Callable[..., nn.Module] = nn.Conv1d if dimensions == 1 else nn.Conv2d
    make = partial(
        kind,
        in_channels,
        out_channels,
        sizes,
        stride=stride,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    if before == after:
        return make(padding=tuple(before))
    # torch pads both ends alike; and it wants the last axis first.
    pads = [count for pair in zip(reversed(before), reversed(after), strict=True) for count in pair]
    pad: Callable[..., nn.Module] = nn.ConstantPad1d if dimensions == 1 else nn.ConstantPad2d
    return nn.Sequential(OrderedDict(pad=pad(tuple(pads), 0.0), conv=make()))


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    activation: str | None,
    norm: str = "none",
    conv: str = "standard",
    stride: int = 1,
    dilation: int = 1,
    padding: str = "same",
    groups: int = 1,
    dimensions: int = 2,
) -> nn.Sequential:
    """Convolution, normalisation, activation; shapes as in `conv_layer`.

    `depthwise_separable` filters each channel by itself and then mixes them 1×1 (MobileNet, arXiv:1704.04861);
    `asymmetric` is k×1 and then 1×k (Inception v3, arXiv:1512.00567). Both have norm and activation after each half.

    Args:
        activation: None leaves it out after the last convolution.

    Raises:
        ValueError: a name that does not exist, or what `conv_layer` refuses.
    """
    bias = needs_bias(norm)
    one = partial(conv_layer, padding=padding, dilation=dilation, bias=bias, dimensions=dimensions)
    if conv not in CONVS:
        raise ValueError(unknown("model.conv", conv, CONVS))
    if conv != "standard" and groups != 1:
        raise ValueError(f"groups={groups} goes with model.conv=standard; {conv} has groups of its own")
    if conv == "depthwise_separable":
        first = (
            "depthwise",
            in_channels,
            one(in_channels, in_channels, kernel_size, stride=stride, groups=in_channels),
        )
        last = ("pointwise", conv_layer(in_channels, out_channels, 1, bias=bias, dimensions=dimensions))
    elif conv == "asymmetric" and dimensions == 2 and kernel_size > 1:
        first = ("vertical", out_channels, one(in_channels, out_channels, (kernel_size, 1), stride=(stride, 1)))
        last = ("horizontal", one(out_channels, out_channels, (1, kernel_size), stride=(1, stride)))
    elif conv == "asymmetric" and dimensions == 1:
        raise ValueError("model.conv=asymmetric is for images: a signal has one axis")
    else:
        first = None
        last = ("conv", one(in_channels, out_channels, kernel_size, stride=stride, groups=groups))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if first is not None:
        name, channels, layer = first
        layers[name] = layer
        layers[f"{name}_norm"] = norm_layer(norm, channels, dimensions=dimensions)
        layers[f"{name}_activation"] = activation_layer(activation) if activation else nn.Identity()
    layers[last[0]] = last[1]
    layers["norm"] = norm_layer(norm, out_channels, dimensions=dimensions)
    layers["activation"] = activation_layer(activation) if activation else nn.Identity()
    return nn.Sequential(OrderedDict((key, layer) for key, layer in layers.items() if type(layer) is not nn.Identity))


def conv_stack(
    in_channels: int, out_channels: int, kernel_size: int, *, depth: int, block: Block, padding: str = "same"
) -> nn.Sequential:
    """A block, then depth − 1 more of the same kernel and channels that keep the size."""
    blocks = [block(in_channels, out_channels, kernel_size, padding=padding)]
    blocks += [block(out_channels, out_channels, kernel_size, padding="same") for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def pool_layer(
    name: str, channels: int, *, block: Block, window: int = 2, stride: int = 2, padding: int = 0
) -> nn.Module:
    """What makes images smaller between two stages.

    Args:
        name: max, avg, stride (a 3×3 convolution of that stride, as in arXiv:1412.6806) or none (the size is kept).
        block: makes the convolution of `stride`.

    Raises:
        ValueError: unknown name.
    """
    if name == "max":
        return nn.MaxPool2d(window, stride, padding)
    if name == "avg":
        return nn.AvgPool2d(window, stride, padding)
    if name == "stride":
        return block(channels, channels, 3, stride=stride)
    if name == "none":
        return nn.Identity()
    raise ValueError(unknown("model.pool", name, POOLS))


def scaled(count: int, width: float) -> int:
    """A number of channels or units times `width`, rounded half up, at least 1."""
    return max(1, int(count * width + 0.5))


def dense_stack(
    in_features: int, out_features: int, *, depth: int, activation: str, dropout: float = 0.0
) -> nn.Sequential:
    """A linear layer, its activation and dropout, then depth − 1 more of the layer's own size.

    Shapes: (N, in_features) to (N, out_features).
    """
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [
            nn.Linear(in_features if number == 0 else out_features, out_features),
            activation_layer(activation),
        ]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def classifier(
    features: nn.Module,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    head: str,
    hidden: Sequence[int] = (),
    depth: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Sequential:
    """Features and the head that reads classes from them: images (N, *input_shape) to logits (N, num_classes).

    Args:
        head: `dense` sees every feature at its place, through layers of `hidden` units; `global_average` sees the
            mean of each feature map, with nothing in between (arXiv:1312.4400).
        hidden: units of the dense layers before the last, each `depth` times.
        dropout: after each hidden dense layer, or after the mean.

    Raises:
        ValueError: an unknown head, or images of which the features leave nothing.
    """
    shape = output_shape(features, input_shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if head == "global_average":
        layers["pool"] = nn.AdaptiveAvgPool1d(1) if len(shape) == 2 else nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        if dropout > 0:
            layers["dropout"] = nn.Dropout(dropout)
        size = shape[0]
    elif head == "dense":
        layers["flatten"] = nn.Flatten()
        size = math.prod(shape)
        for number, units in enumerate(hidden, 1):
            layers[f"hidden{number}"] = dense_stack(size, units, depth=depth, activation=activation, dropout=dropout)
            size = units
    else:
        raise ValueError(unknown("model.head", head, HEADS))
    layers["classes"] = nn.Linear(size, num_classes)
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(layers)))
