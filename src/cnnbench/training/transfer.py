"""Load weights into a network that they were not saved from: by name and shape, with a list of what fitted."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.registry import find_nearest
from cnnbench.storage.text import join_some, make_printable
from cnnbench.training.checkpoint import strip_wrappers

SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Transfer:
    """How weights fit a network, by the names of its tensors."""

    fitted: list[str]  # with the same name and shape
    missing: list[str]  # in the network only
    unexpected: list[str]  # in the weights only
    other_shape: dict[str, tuple[list[int], list[int]]]  # in both; the shape in the weights, and in the network

    @property
    def total(self) -> int:
        """The tensors of the network."""
        return len(self.fitted) + len(self.missing) + len(self.other_shape)

    def describe(self) -> list[str]:
        """A line for each kind of tensors that were not loaded."""
        shapes = [
            f"{make_printable(name)} ({_format_shape(there)} there, {_format_shape(here)} here)"
            for name, (there, here) in self.other_shape.items()
        ]
        kinds = {"of another shape": shapes, "missing there": self.missing, "unexpected": self.unexpected}
        return [
            f"{len(names)} {kind}: {join_some([*map(make_printable, names)], SHOWN, '; ')}"
            for kind, names in kinds.items()
            if names
        ]


def load_matching(model: nn.Module, tensors: Mapping[str, Tensor]) -> Transfer:
    """Load the tensors that fit a network; all others of the network keep their values.

    On the meta device, nothing is loaded, but what would fit is found.

    Raises:
        ValueError: no parameter fits, or one that fits holds no numbers.
    """
    own = model.state_dict()
    given = {strip_wrappers(name): value for name, value in tensors.items()}
    shapes = {name: ([*given[name].shape], [*value.shape]) for name, value in own.items() if name in given}
    fitted = [name for name, (there, here) in shapes.items() if there == here]
    # A batch norm counts its batches in a tensor of no dimensions, which fits every other batch norm.
    if not {name for name, _ in model.named_parameters()} & {*fitted}:
        raise ValueError(_explain_no_fit([*own], [*given]))
    for name in fitted:
        if not bool(given[name].isfinite().all()):
            raise ValueError(f"{name!r} holds values that are infinite or not a number")
    if not any(value.is_meta for value in own.values()):
        with torch.no_grad():
            for name in fitted:
                own[name].copy_(given[name])
    return Transfer(
        fitted,
        missing=[name for name in own if name not in given],
        unexpected=[name for name in given if name not in own],
        other_shape={name: both for name, both in shapes.items() if name not in fitted},
    )


def _explain_no_fit(own: list[str], given: list[str]) -> str:
    near = [(name, there) for name in own if (there := find_nearest(name, given))]
    exact = [(name, there) for name, there in near if name == there]
    if exact:
        names = join_some([repr(name) for name, _ in exact], SHOWN)
        return f"none of the network's {len(own)} tensors fits: {names} have other shapes there"
    pairs = join_some([f"{name!r} is most like {there!r} there" for name, there in near], 3, "; ")
    pairs = pairs or f"the network has {join_some(own, 3)}; there are {join_some(given, 3)}"
    return f"none of the network's {len(own)} tensors is among the {len(given)} there: {pairs}"


def _format_shape(shape: list[int]) -> str:
    return "×".join(map(str, shape)) or "a number"
