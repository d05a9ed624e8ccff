"""The receptive field, carried along with every tensor of a forward pass.

For each axis of the image we know the first and the last position that each output sees (its start and end). A layer
whose output reads some positions of the layer before sees from the smallest start to the largest end among them. Behind
a convolution of stride s the next output sees s positions further on, so one start, one end and the distance between
neighbours (the jump) describe all outputs. After upsampling, neighbours may see the same positions; we then keep the
starts and ends of a whole period of outputs. Where branches meet, the field is their union.

Start, end and jump are those of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill, 2019.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

GONE = 0  # in `Field.dims`: the axis has one position left and no dimension, so that nothing can mix along it


@dataclass(frozen=True)
class Reading:
    """Which positions a layer reads along one axis of its input."""

    positions: Callable[[int], Iterable[int]]  # those that output o reads
    # Output o + outputs reads the same positions + inputs.
    inputs: int = 1
    outputs: int = 1


@dataclass(frozen=True)
class Axis:
    """The part of one axis of the image that a layer's outputs see.

    Attributes:
        starts, ends: first and last position seen by each output of one period, from output 0 on. Padding lies below 0
            and from `length` on. An output that sees nothing, in a gap of a transposed convolution, has inf and −inf.
    """

    length: int  # of the image along this axis
    starts: tuple[float, ...] = (0,)
    ends: tuple[float, ...] = (0,)
    shift: int = 1  # how much further on the outputs of the next period see
    whole: bool = False  # every output sees the whole axis

    @property
    def size(self) -> int:
        """Positions seen by the output that sees the most."""
        if self.whole:
            return self.length
        return int(max(end - start + 1 for start, end in zip(self.starts, self.ends, strict=True)))

    @property
    def jump(self) -> float:
        """Distance in the image between neighbouring outputs; an int where it is whole."""
        jump = Fraction(self.shift, len(self.starts))
        return int(jump) if jump.denominator == 1 else float(jump)

    @property
    def is_collapsed(self) -> bool:
        """Whether there is only one output, which sees the whole axis."""
        return self.whole and self.shift == self.length

    def compute_span(self, output: int) -> tuple[float, float]:
        """The first and the last position that an output sees."""
        periods, phase = divmod(output, len(self.starts))
        return self.starts[phase] + periods * self.shift, self.ends[phase] + periods * self.shift

    def read(self, reading: Reading) -> "Axis":
        """The axis behind a layer that reads this one."""
        if self.is_collapsed:
            return self
        period = len(self.starts)
        # After this many readings, the outputs have passed a whole number of the input's periods.
        repeats = period // math.gcd(period, reading.inputs)
        spans = [[self.compute_span(i) for i in reading.positions(o)] for o in range(reading.outputs * repeats)]
        return replace(
            self,
            starts=tuple(min((start for start, _ in read), default=math.inf) for read in spans),
            ends=tuple(max((end for _, end in read), default=-math.inf) for read in spans),
            shift=self.shift * (reading.inputs * repeats // period),
        )

    def collapse(self) -> "Axis":
        """The axis behind a layer of which one output reads all positions."""
        return Axis(self.length, (0,), (self.length - 1,), self.length, True)


@dataclass(frozen=True)
class Field:
    """The part of the image that the elements of a tensor see.

    Attributes:
        dims: the dimension of the tensor along which each axis lies, counted from the last, −1. None where an axis is
            spread over several dimensions, `GONE` where it has none left.
        last_window: the axes behind the last convolution or pooling on each path to here; None where there is none.
    """

    axes: tuple[Axis, ...] = ()  # height and width, or a signal's length
    dims: tuple[int | None, ...] = ()
    depth: int = 0  # layers with weights on the longest path to here
    last_window: tuple[Axis, ...] | None = None

    @classmethod
    def of_image(cls, sizes: Sequence[int]) -> "Field":
        """The field of the image or signal itself, (N, C, *sizes)."""
        return cls(tuple(Axis(n) for n in sizes), tuple(range(-len(sizes), 0)))

    @property
    def size(self) -> tuple[int, ...]:
        """Positions that one element sees, along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def jump(self) -> tuple[float, ...]:
        """Distance in the image between neighbouring elements, along each axis."""
        return tuple(axis.jump for axis in self.axes)

    def read(self, readings: Mapping[int, Reading]) -> "Field":
        """The field behind a layer that reads along some dimensions of its input.

        An axis that is spread over several dimensions then counts as seen whole: an upper bound.
        """
        axes = []
        for axis, dim in zip(self.axes, self.dims, strict=True):
            if dim is None:
                axes.append(axis.collapse() if readings else axis)
            else:
                axes.append(axis.read(readings[dim]) if dim in readings else axis)
        return replace(self, axes=tuple(axes))

    def mix(self, dims: Iterable[int]) -> "Field":
        """The field behind a layer whose outputs each read all positions along some dimensions of its input."""
        mixing = {*dims, None}
        axes = [a.collapse() if dim in mixing else a for a, dim in zip(self.axes, self.dims, strict=True)]
        return replace(self, axes=tuple(axes))

    def mix_all(self) -> "Field":
        """The field behind a layer whose outputs read everything, such as attention."""
        return replace(self, axes=tuple(axis.collapse() for axis in self.axes))

    def replace_dims(self, dims: Iterable[int | None]) -> "Field":
        """The same field in a tensor with other dimensions."""
        return replace(self, dims=tuple(dims))

    def end_window(self) -> "Field":
        """The field behind a convolution or pooling; behind a layer that sees the whole image, it belongs to a head."""
        return self if all(axis.is_collapsed for axis in self.axes) else replace(self, last_window=self.axes)

    def deepen(self, layers: int = 1) -> "Field":
        """The field behind `layers` more layers with weights."""
        return replace(self, depth=self.depth + layers)

    def reshape(self, before: Sequence[int], after: Sequence[int]) -> "Field":
        """The field in a tensor of shape `after` made of one of shape `before`, element for element.

        An axis stays where a dimension keeps its size and the number of elements behind it; broadcasting and
        concatenation leave it in its place.
        """
        if tuple(before) == tuple(after):
            return self
        same_elements = math.prod(before) == math.prod(after)

        def place(dim: int | None) -> int | None:
            if dim is None or dim == GONE:
                return dim
            if same_elements:
                return _find_same_dimension(before, after, dim)
            return dim if -dim <= len(after) and before[dim] in (1, after[dim]) else None

        return self.replace_dims(place(dim) for dim in self.dims)


def _find_same_dimension(before: Sequence[int], after: Sequence[int], dim: int) -> int | None:
    # With equally many elements behind it, a dimension has the same stride: the same elements lie along it.
    size, behind = before[dim], math.prod(before[len(before) + dim + 1 :])
    for candidate in range(-1, -len(after) - 1, -1):
        if after[candidate] == size and math.prod(after[len(after) + candidate + 1 :]) == behind:
            return candidate
    return GONE if size == 1 else None


def merge_fields(fields: Sequence[Field]) -> Field:
    """The field where branches meet: the union along each axis and the greatest depth. Nothing sees nothing."""
    if len(fields) < 2:
        return fields[0] if fields else Field()
    windows = [field.last_window for field in fields if field.last_window]
    axes = list(zip(*(field.axes for field in fields), strict=True))
    # An axis that is collapsed in one branch is broadcast along the dimension where the others have it.
    dims = [
        _find_common_dim([f.dims[i] for f in fields if not f.axes[i].is_collapsed] or [f.dims[i] for f in fields])
        for i in range(len(axes))
    ]
    return Field(
        axes=tuple(map(_unite_axes, axes)),
        dims=tuple(dims),
        depth=max(field.depth for field in fields),
        last_window=tuple(map(_unite_axes, zip(*windows, strict=True))) if windows else None,
    )


def _unite_axes(axes: Sequence[Axis]) -> Axis:
    # Branches that meet have one jump; a larger one belongs to a branch with a single output, which is broadcast.
    finest = min(axes, key=lambda axis: axis.jump)
    period = math.lcm(*(len(axis.starts) for axis in axes))
    spans = [[axis.compute_span(output) for axis in axes] for output in range(period)]
    return Axis(
        finest.length,
        tuple(min(start for start, _ in met) for met in spans),
        tuple(max(end for _, end in met) for met in spans),
        finest.shift * (period // len(finest.starts)),
        any(axis.whole for axis in axes),
    )


def _find_common_dim(dims: Sequence[int | None]) -> int | None:
    places = {dim for dim in dims if dim != GONE} or {GONE}
    return places.pop() if len(places) == 1 else None
