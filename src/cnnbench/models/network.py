"""The arguments of every family of networks: the shape of the data, and the size and kind of the network."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class NetworkSpec:
    """The arguments that all families share.

    Attributes:
        in_channels: of the images or signals.
        image_size: (H, W) of images, (L,) of signals.
        num_classes: how many logits a classifier gives.
        width: multiplies every hidden channel and unit count.
        depth: multiplies the layers of every stage.
        activation: one of `layers.ACTIVATIONS`.
        dropout: probability that a unit is dropped; 0 leaves the dropout layers out.
    """

    in_channels: int
    image_size: tuple[int, ...]
    num_classes: int
    width: float = 1.0
    depth: int = 1
    activation: str = "relu"
    dropout: float = 0.0

    @property
    def dimensions(self) -> int:
        """2 for images (N, C, H, W), 1 for signals (N, C, L)."""
        return len(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, (C, L) of a signal."""
        return (self.in_channels, *self.image_size)

    def require_defaults(self, *names: str) -> None:
        """Refuse other values of arguments that a network does not use, such as depth.

        Raises:
            ValueError: names the argument, its value and its default.
        """
        for field in fields(self):
            if field.name in names and (value := getattr(self, field.name)) != field.default:
                raise ValueError(f"model.{field.name}={value}: must be {field.default}: this network does not use it")

    def scale(self, count: int) -> int:
        """A number of channels or units times `width`, rounded half up, at least 1."""
        return max(1, int(count * self.width + 0.5))
