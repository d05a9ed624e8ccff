"""A run's network with its preprocessing and softmax: from images as they are in files to probabilities."""

import math

import torch
from torch import Tensor, nn
from torch.export import Dim

from cnnbench.data.files.fitting import Decoding
from cnnbench.data.loader import make_permutation
from cnnbench.experiment.measuring.predict import get_decoding
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.exporting.resizing import Fit, is_exact
from cnnbench.training.tasks import get_task


class Normalization(nn.Module):
    """The normalisation of images or signals, as `Batches` does it in an evaluation."""

    scale: Tensor
    shift: Tensor
    order: Tensor | None

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        dimensions = trained.info.dimensions
        per_channel = (-1, *[1] * dimensions)
        mean, std = (torch.tensor(values).view(per_channel) for values in (trained.mean, trained.std))
        self.largest = 255 if dimensions == 2 else 1
        # One product and one difference, as in `data.loader`, so that the bits are the same.
        self.register_buffer("scale", 1 / (self.largest * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)
        permutes = trained.config.data.permute_pixels
        order = make_permutation(math.prod(trained.info.size)) if permutes else None
        self.register_buffer("order", order, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """float32 (N, C, …), pixels 0…255 or signals, to the same shape."""
        return _reorder(values, self.order) * self.scale - self.shift

    def invert(self, normalised: Tensor) -> Tensor:
        """The values before normalisation, pixels scaled to 0…1."""
        values = (normalised + self.shift) / (self.scale * self.largest)
        return _reorder(values, None if self.order is None else self.order.argsort())


class PortableNetwork(nn.Module):
    """A network that takes images as they are in files, uint8 (N, C, h, w), or signals, float32 (N, C, L).

    It computes in float32. A classifier returns logits and probabilities, float32 (N, K), calibrated if the run is. An
    autoencoder returns reconstructions, float32 (N, C, H, W), pixels scaled to 0…1.

    Attributes:
        outputs: the names of the outputs.
        how: the resize of images; None for signals.
        resizes: whether it accepts images of any size, or only of the network's size.
    """

    def __init__(self, trained: Trained, temperature: float | None) -> None:
        super().__init__()
        # Other programs expect contiguous tensors.
        network = trained.load_model(torch.device("cpu"))
        self.network: nn.Module = network.to(memory_format=torch.contiguous_format).eval()
        self.normalise = Normalization(trained)
        self.temperature = temperature
        self.has_classes = get_task(network).has_classes
        self.outputs = ("logits", "probabilities") if self.has_classes else ("reconstructions",)
        self.input_shape = trained.info.input_shape
        self.how: Decoding | None = get_decoding(trained) if trained.info.dimensions == 2 else None
        self.resizes = self.how is not None and is_exact(self.how)
        self.fit = Fit(self.how) if self.how is not None and self.resizes else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs for images; the name of the parameter is that of the input in other programs."""
        values = images.float() if self.fit is None else self.fit(images)
        return self.finish(self.network(self.normalise(values)))

    def finish(self, output: Tensor) -> tuple[Tensor, ...]:
        """The outputs, from the output of the network."""
        if not self.has_classes:
            return (self.normalise.invert(output),)
        scaled = output if self.temperature is None else output / self.temperature
        return output, scaled.softmax(1)

    def trace(self) -> torch.export.ExportedProgram:
        """The graph of the computation, for any number and, if `resizes`, any size of images."""
        kind = torch.float32 if self.how is None else torch.uint8
        channels, *sides = self.input_shape
        free = {0: Dim.DYNAMIC}
        if self.resizes:
            # The example's sides are different and not 1, because the tracer would turn such coincidences into rules.
            sides = [2 * sides[0] + 3, 3 * sides[1] + 5]
            free |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
        with torch.no_grad():
            return torch.export.export(self, (torch.zeros(2, channels, *sides, dtype=kind),), dynamic_shapes=(free,))


def _reorder(values: Tensor, order: Tensor | None) -> Tensor:
    return values if order is None else values.flatten(2).index_select(2, order).view(values.shape)
