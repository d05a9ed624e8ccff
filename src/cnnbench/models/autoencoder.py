"""A convolutional autoencoder: strided convolutions down to a code, transposed convolutions back to the image.

Masci et al., "Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction", ICANN 2011; transposed
convolutions as in Zeiler et al., "Deconvolutional Networks", CVPR 2010. Its task is reconstruction: labels are not
looked at.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from cnnbench.models.layers import Block, activation_layer, conv_block, conv_stack, needs_bias, norm_layer, scaled
from cnnbench.models.shapes import output_shape
from cnnbench.registry import register


class ConvAutoencoder(nn.Module):
    """An encoder and a decoder.

    Shapes: images (N, C, H, W) to images (N, C, H, W).

    Attributes:
        task: what it is trained for.
    """

    task = "reconstruction"

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """The images, through the code and back."""
        return self.decoder(self.encoder(images))


@register("model", "conv_autoencoder")
def conv_autoencoder(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    channels: list[int],
    code_channels: int,
    norm: str,
) -> ConvAutoencoder:
    """A 4×4 convolution of stride 2 for each of `channels`, a 1×1 to the code, and the mirror image of it all.

    Args:
        num_classes: not used.
        channels: filters of each halving of the resolution.
        code_channels: of the code, at the lowest resolution.
        width: multiplies channels and code channels.
        depth: gives every strided or transposed convolution depth − 1 convolutions that keep the size.
        dropout: on the code.

    Raises:
        ValueError: a name that does not exist, or images that vanish on the way to the code.
    """
    if not channels:
        raise ValueError(f"model.channels={channels}: accepted is a list of at least one filter count")
    block = partial(conv_block, activation=activation, norm=norm)
    filters = [scaled(count, width) for count in channels]
    code = scaled(code_channels, width)
    encoder: OrderedDict[str, nn.Module] = OrderedDict()
    sizes = [tuple(image_size)]
    entering = in_channels
    for number, leaving in enumerate(filters, 1):
        down = nn.Conv2d(entering, leaving, 4, stride=2, padding=1, bias=needs_bias(norm))
        sizes.append(output_shape(down, (entering, *sizes[-1]))[1:])
        encoder[f"down{number}"] = _stage(down, leaving, depth, block, norm, activation)
        entering = leaving
    encoder["code"] = nn.Conv2d(entering, code, 1)
    if dropout > 0:
        encoder["dropout"] = nn.Dropout(dropout)
    decoder: OrderedDict[str, nn.Module] = OrderedDict(grow=block(code, entering, 1))
    for number, leaving in reversed(list(enumerate([in_channels, *filters[:-1]], 1))):
        # Halving rounds down: the row that was lost comes back.
        height, width = (side - 2 * half for side, half in zip(sizes[number - 1], sizes[number], strict=True))
        last = number == 1
        bias = last or needs_bias(norm)
        up = nn.ConvTranspose2d(entering, leaving, 4, stride=2, padding=1, output_padding=(height, width), bias=bias)
        decoder[f"up{number}"] = up if last else _stage(up, leaving, depth, block, norm, activation)
        entering = leaving
    return ConvAutoencoder(nn.Sequential(encoder), nn.Sequential(decoder))


def _stage(resample: nn.Module, channels: int, depth: int, block: Block, norm: str, activation: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        resample=resample, norm=norm_layer(norm, channels), activation=activation_layer(activation)
    )
    if depth > 1:
        layers["more"] = conv_stack(channels, channels, 3, depth=depth - 1, block=block)
    return nn.Sequential(layers)
