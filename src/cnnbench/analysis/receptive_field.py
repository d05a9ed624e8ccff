"""The theoretical receptive field, carried along with every tensor of a forward pass.

Each convolution or pooling of kernel k, stride s and dilation d widens the field by d·(k − 1) times the distance
between neighbouring outputs so far (the jump), and multiplies the jump by s. Where branches meet, the widest counts.
See Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """What one output of a layer depends on, along height and width.

    Attributes:
        size: pixels of the input it can see.
        jump: distance in input pixels between two neighbouring outputs.
        depth: layers with weights on the longest path to here.
    """

    size: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)
    depth: int = 0

    def through_window(
        self, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], weighted: bool
    ) -> "Field":
        """The field behind a convolution or pooling."""
        size = tuple(s + d * (k - 1) * j for s, k, d, j in zip(self.size, kernel, dilation, self.jump, strict=True))
        jump = tuple(j * s for j, s in zip(self.jump, stride, strict=True))
        return Field((size[0], size[1]), (jump[0], jump[1]), self.depth + weighted)

    def over_everything(self, image_size: tuple[int, int], weighted: bool) -> "Field":
        """The field behind a layer whose every output sees the whole image."""
        return Field(image_size, image_size, self.depth + weighted)


def merged(fields: list[Field]) -> Field:
    """The field where branches meet: per axis the widest, and the deepest."""
    if not fields:
        return Field()
    return Field(
        (max(f.size[0] for f in fields), max(f.size[1] for f in fields)),
        (max(f.jump[0] for f in fields), max(f.jump[1] for f in fields)),
        max(f.depth for f in fields),
    )
