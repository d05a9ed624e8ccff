"""A convolutional autoencoder: strided convolutions down to a code, transposed convolutions back to the image.

Masci et al., "Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction", ICANN 2011; transposed
convolutions as in Zeiler et al., "Deconvolutional Networks", CVPR 2010. Its task is reconstruction: it ignores labels.
"""

from itertools import pairwise

from torch import Tensor, nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import ConvBlock, Style, make_conv_stack
from cnnbench.models.shapes import compute_output_shape
from cnnbench.models.spec import COUNTS, Counts, NetworkSpec, NormOptions
from cnnbench.registry import register


class AutoencoderOptions(NormOptions):
    """What `configs/model/conv_autoencoder.yaml` sets."""

    channels: Counts = key("Filters of each stage, which halves the size", accepted=COUNTS)
    code_channels: Count = key("Channels of the code")


class ResamplingBlock(nn.Module):
    """A strided or transposed convolution, its norm and activation, and depth − 1 convolutions that keep the size."""

    def __init__(self, resample: nn.Module, channels: int, style: Style, depth: int) -> None:
        super().__init__()
        self.resample = resample
        self.norm = style.make_norm(channels)
        self.activation = style.make_activation()
        self.more = make_conv_stack(channels, channels, 3, style, depth=depth - 1) if depth > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H / 2, W / 2), or twice the size."""
        return self.more(self.activation(self.norm(self.resample(x))))


@register("model", "conv_autoencoder")
class ConvAutoencoder(nn.Module):
    """A 4×4 convolution of stride 2 for each of `channels`, a 1×1 to the code, and the mirror image of it all.

    Shapes: images (N, C, H, W) to images (N, C, H, W). `depth` gives every strided or transposed convolution depth − 1
    that keep the size; dropout acts on the code.

    Attributes:
        task: what it is trained for.
    """

    task = "reconstruction"

    def __init__(self, spec: NetworkSpec, options: AutoencoderOptions) -> None:
        super().__init__()
        style = Style(spec.activation, options.norm)
        bias = style.needs_bias
        channels = [spec.in_channels, *map(spec.scale, options.channels)]
        code = spec.scale(options.code_channels)
        sizes = [spec.image_size]
        self.encoder = nn.Sequential()
        for number, (entering, leaving) in enumerate(pairwise(channels), 1):
            # The stride divides the kernel, so that transposed windows overlap evenly, without a checkerboard pattern.
            down = nn.Conv2d(entering, leaving, 4, stride=2, padding=1, bias=bias)
            sizes.append(compute_output_shape(down, (entering, *sizes[-1]))[1:])
            self.encoder.add_module(f"down{number}", ResamplingBlock(down, leaving, style, spec.depth))
        self.encoder.add_module("code", nn.Conv2d(channels[-1], code, 1))
        if spec.dropout > 0:
            self.encoder.add_module("dropout", nn.Dropout(spec.dropout))
        self.decoder = nn.Sequential()
        self.decoder.add_module("grow", ConvBlock(code, channels[-1], 1, style))
        # Names count from the images on both sides: up1 undoes down1.
        for number, (leaving, entering) in reversed(list(enumerate(pairwise(channels), 1))):
            # Halving rounds down: the row or column that was lost comes back.
            rows, columns = (side - 2 * half for side, half in zip(sizes[number - 1], sizes[number], strict=True))
            is_last = number == 1
            up = nn.ConvTranspose2d(
                entering, leaving, 4, stride=2, padding=1, output_padding=(rows, columns), bias=bias or is_last
            )
            # No norm and no activation at the end: normalised pixels may have any sign and size.
            block = up if is_last else ResamplingBlock(up, leaving, style, spec.depth)
            self.decoder.add_module(f"up{number}", block)

    def forward(self, images: Tensor) -> Tensor:
        """The images, through the code and back."""
        return self.decoder(self.encoder(images))
