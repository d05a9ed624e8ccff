"""The receptive field, carried along with every tensor of a forward pass.

Along each axis of the input it is known where the field of every output starts and ends: a layer whose output o reads
some positions of the layer before sees from the first start to the last end among them. A convolution of stride s
reads s positions further on for the next output, so that a start, an end and the distance between neighbours (the
jump) say everything; after upsampling, neighbours may share a position, and a whole period of outputs is kept.
Where branches meet, the field is the union. See Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional
Neural Networks", Distill, 2019, whose start, end and jump these are.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

GONE = 0  # in `Field.dims`: a single position is left of the axis, and no dimension; there is nothing to mix


@dataclass(frozen=True)
class Reading:
    """Which positions of its input a layer reads along one axis.

    Attributes:
        positions: those that output o reads.
        inputs, outputs: output o + outputs reads the same positions + inputs.
    """

    positions: Callable[[int], Iterable[int]]
    inputs: int = 1
    outputs: int = 1


@dataclass(frozen=True)
class Axis:
    """What a layer's outputs see along one axis of the input.

    Attributes:
        length: of the input.
        starts, ends: first and last position seen by the outputs of one period, from output 0 on; padding lies below
            0 and from `length` on. An output that sees nothing, in the gaps of a transposed convolution, has inf and
            −inf.
        shift: how much further on the outputs of the next period see.
        whole: every output sees the whole input.
    """

    length: int
    starts: tuple[float, ...] = (0,)
    ends: tuple[float, ...] = (0,)
    shift: int = 1
    whole: bool = False

    @property
    def size(self) -> int:
        """Positions that one output sees: those of the output that sees the most."""
        if self.whole:
            return self.length
        return int(max(end - start + 1 for start, end in zip(self.starts, self.ends, strict=True)))

    @property
    def jump(self) -> float:
        """Distance between neighbouring outputs in the input; an int where it is whole."""
        jump = Fraction(self.shift, len(self.starts))
        return int(jump) if jump.denominator == 1 else float(jump)

    @property
    def collapsed(self) -> bool:
        """Whether there is one output only, and it sees everything."""
        return self.whole and self.shift == self.length

    def span(self, output: int) -> tuple[float, float]:
        """The first and the last position that an output sees."""
        periods, phase = divmod(output, len(self.starts))
        return self.starts[phase] + periods * self.shift, self.ends[phase] + periods * self.shift

    def read(self, reading: Reading) -> "Axis":
        """The axis behind a layer that reads this one."""
        if self.collapsed:
            return self
        period = len(self.starts)
        repeats = period // math.gcd(period, reading.inputs)
        seen = [[self.span(i) for i in reading.positions(o)] for o in range(reading.outputs * repeats)]
        return replace(
            self,
            starts=tuple(min((start for start, _ in spans), default=math.inf) for spans in seen),
            ends=tuple(max((end for _, end in spans), default=-math.inf) for spans in seen),
            shift=self.shift * (reading.inputs * repeats // period),
        )

    def everything(self) -> "Axis":
        """The axis behind a layer of which one output reads all positions."""
        return Axis(self.length, (0,), (self.length - 1,), self.length, True)


@dataclass(frozen=True)
class Field:
    """What the outputs in a tensor see of the input.

    Attributes:
        axes: along height and width, or along a signal's length.
        dims: the dimension of the tensor along which each axis lies, counted from the last, −1; None where it is
            spread over several dimensions, and 0 (`GONE`) where it has none left.
        depth: layers with weights on the longest path to here.
        last_window: the axes behind the last convolution or pooling on each path to here; None where there is none.
    """

    axes: tuple[Axis, ...]
    dims: tuple[int | None, ...]
    depth: int = 0
    last_window: tuple[Axis, ...] | None = None

    @classmethod
    def of_input(cls, sizes: Sequence[int]) -> "Field":
        """The field of the input itself, (N, C, *sizes)."""
        return cls(tuple(Axis(n) for n in sizes), tuple(range(-len(sizes), 0)))

    @property
    def size(self) -> tuple[int, ...]:
        """Positions that one output sees, along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def jump(self) -> tuple[float, ...]:
        """Distance in the input between neighbouring outputs, along each axis."""
        return tuple(axis.jump for axis in self.axes)

    def read(self, readings: Mapping[int, Reading]) -> "Field":
        """The field behind a layer that reads along some dimensions of its input.

        An axis that is spread over several dimensions then counts as seen whole: an upper bound.
        """
        axes = []
        for axis, dim in zip(self.axes, self.dims, strict=True):
            if dim is None:
                axes.append(axis.everything() if readings else axis)
            else:
                axes.append(axis.read(readings[dim]) if dim in readings else axis)
        return replace(self, axes=tuple(axes))

    def mixed(self, dims: Iterable[int]) -> "Field":
        """The field behind a layer whose outputs each read all positions along some dimensions of its input."""
        mixing = {*dims, None}
        axes = [a.everything() if dim in mixing else a for a, dim in zip(self.axes, self.dims, strict=True)]
        return replace(self, axes=tuple(axes))

    def everything(self) -> "Field":
        """The field behind a layer whose outputs read everything, such as attention."""
        return replace(self, axes=tuple(axis.everything() for axis in self.axes))

    def laid(self, dims: Iterable[int | None]) -> "Field":
        """The same field in a tensor with other dimensions."""
        return replace(self, dims=tuple(dims))

    def windowed(self) -> "Field":
        """The field behind a convolution or pooling; one that follows a look at everything is part of a head."""
        return self if all(axis.collapsed for axis in self.axes) else replace(self, last_window=self.axes)

    def deeper(self, layers: int = 1) -> "Field":
        """The field with layers with weights more behind it."""
        return replace(self, depth=self.depth + layers)

    def reshaped(self, before: Sequence[int], after: Sequence[int]) -> "Field":
        """The field in a tensor of shape `after` that comes from one of shape `before`, element for element.

        An axis stays where a dimension has its size and as many elements behind it as before; broadcasting and
        concatenation leave it in its place.
        """
        if tuple(before) == tuple(after):
            return self
        rearranged = math.prod(before) == math.prod(after)

        def moved(dim: int | None) -> int | None:
            if dim is None or dim == GONE:
                return dim
            if rearranged:
                return _same_dimension(before, after, dim)
            return dim if -dim <= len(after) and before[dim] in (1, after[dim]) else None

        return self.laid(moved(dim) for dim in self.dims)


def _same_dimension(before: Sequence[int], after: Sequence[int], dim: int) -> int | None:
    size, behind = before[dim], math.prod(before[len(before) + dim + 1 :])
    for candidate in range(-1, -len(after) - 1, -1):
        if after[candidate] == size and math.prod(after[len(after) + candidate + 1 :]) == behind:
            return candidate
    return GONE if size == 1 else None


def merged(fields: Sequence[Field]) -> Field:
    """The field where branches meet: along each axis the union, and the greatest depth."""
    if len(fields) == 1:
        return fields[0]
    axes = [_union(axes) for axes in zip(*(field.axes for field in fields), strict=True)]
    windows = [field.last_window for field in fields if field.last_window]
    # An axis that is collapsed in one branch is broadcast along the dimension where the others have it.
    dims = [
        _agreed([field.dims[i] for field in fields if not field.axes[i].collapsed] or [f.dims[i] for f in fields])
        for i in range(len(axes))
    ]
    return Field(
        axes=tuple(axes),
        dims=tuple(dims),
        depth=max(field.depth for field in fields),
        last_window=tuple(_union(axes) for axes in zip(*windows, strict=True)) if windows else None,
    )


def _union(axes: Sequence[Axis]) -> Axis:
    # Branches that meet have one jump; a larger one belongs to a branch with a single output, which is broadcast.
    finest = min(axes, key=lambda axis: axis.jump)
    period = math.lcm(*(len(axis.starts) for axis in axes))
    spans = [[axis.span(output) for axis in axes] for output in range(period)]
    return Axis(
        finest.length,
        tuple(min(start for start, _ in seen) for seen in spans),
        tuple(max(end for _, end in seen) for seen in spans),
        finest.shift * (period // len(finest.starts)),
        any(axis.whole for axis in axes),
    )


def _agreed(dims: Sequence[int | None]) -> int | None:
    places = {dim for dim in dims if dim != GONE} or {GONE}
    return places.pop() if len(places) == 1 else None


def window(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Reading:
    """How a convolution or pooling reads; `padding` is what stands before the first position."""
    return Reading(lambda o: range(o * stride - padding, o * stride - padding + kernel * dilation, dilation), stride)


def transposed_window(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Reading:
    """How a transposed convolution reads: position i goes to the outputs i · stride − padding + dilation · tap."""

    def positions(output: int) -> list[int]:
        reached = [output + padding - dilation * tap for tap in range(kernel)]
        return [place // stride for place in reached if place % stride == 0]

    return Reading(positions, 1, stride)


def adaptive_window(inputs: int, outputs: int) -> Reading:
    """How an adaptive pooling from `inputs` to `outputs` positions reads."""
    ratio = Fraction(inputs, outputs)
    return Reading(
        lambda o: range(math.floor(o * ratio), math.ceil((o + 1) * ratio)), ratio.numerator, ratio.denominator
    )


def resizing(inputs: int, outputs: int, *, neighbours: int, centred: bool, align_corners: bool = False) -> Reading:
    """How an interpolation from `inputs` to `outputs` positions reads.

    Args:
        neighbours: 0 for nearest; 1 on either side for linear, 2 for cubic.
        centred: whether positions are compared by their middles.
        align_corners: the first and last positions of both lie on each other.
    """
    corners = align_corners and inputs > 1 and outputs > 1
    ratio = Fraction(inputs - 1, outputs - 1) if corners else Fraction(inputs, outputs)
    offset = Fraction(1, 2) if centred and not corners else Fraction(0)

    def positions(output: int) -> Iterable[int]:
        if neighbours == 0:
            return [math.floor((output + offset) * ratio)]
        place = (output + offset) * ratio - offset
        if place.denominator == 1:
            return [int(place)]
        return range(math.floor(place) - neighbours + 1, math.floor(place) + neighbours + 1)

    return Reading(positions, ratio.numerator, ratio.denominator)
