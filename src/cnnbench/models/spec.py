"""`NetworkSpec`: the arguments that all families of networks share. Also the options that several declare."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import Field

from cnnbench.config.keys import Count, Options, format_value, key

Norm = Literal["none", "batch", "layer", "instance", "group", "lrn"]
Conv = Literal["standard", "depthwise_separable", "asymmetric"]
Pool = Literal["max", "avg", "stride", "none"]
Head = Literal["dense", "global_average"]
KernelSize = Annotated[int, Field(ge=1, le=7)]

Counts = Annotated[list[Count], Field(min_length=1)]
Stages = Annotated[list[Counts], Field(min_length=1)]
COUNTS = "a list of at least one whole number from 1 to 1,000,000"
STAGES = "a list of at least one stage, each a list of at least one whole number from 1 to 1,000,000"


class NormOptions(Options):
    """The options of a network with norms."""

    norm: Norm = key("Normalisation after each convolution")


class ClassifierOptions(NormOptions):
    """The options of a network that ends in `blocks.Classifier` and lets the user choose its head."""

    head: Head = key("How classes are read from the features")


@dataclass(frozen=True)
class NetworkSpec:
    """The arguments that all families share."""

    in_channels: int  # of the images or signals
    image_size: tuple[int, ...]  # `DatasetInfo.size`: (H, W) of images, (L,) of signals
    num_classes: int  # how many logits a classifier gives
    width: float = 1.0  # multiplies every hidden channel and unit count
    depth: int = 1  # multiplies the layers of every stage
    activation: str = "relu"  # one of `layers.ACTIVATIONS`
    dropout: float = 0.0  # probability that a unit is dropped; 0 leaves the dropout layers out

    @property
    def dimensions(self) -> int:
        """2 for images (N, C, H, W), 1 for signals (N, C, L)."""
        return len(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, (C, L) of a signal."""
        return (self.in_channels, *self.image_size)

    def require_defaults(self, *names: str, hint: str = "") -> None:
        """Refuse other values of arguments that a network does not use, such as depth.

        Args:
            hint: a sentence for the end of the message.

        Raises:
            ValueError: names the argument, its value and its default.
        """
        for field in fields(self):
            if field.name in names and (value := getattr(self, field.name)) != field.default:
                raise ValueError(
                    f"model.{field.name}={format_value(value)}: must be {format_value(field.default)}, because the "
                    f"network does not use it{hint and f'. {hint}'}"
                )

    def scale(self, count: int) -> int:
        """A number of channels or units times `width`, rounded half up, at least 1."""
        return max(1, int(count * self.width + 0.5))  # `round` would round half to even
