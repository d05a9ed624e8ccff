"""The layers of a compiled network: the kernel, the inputs and the weights of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

WEIGHTED = ("conv", "linear")  # their weights can absorb a scale and a shift of each channel
FOLLOW_UPS = {"activation", "affine", "group_norm", "add"}  # belong to the block of the layer before them
MOVES = {"gather", "reshape", "constant"}  # compute no values


class MissingKernel(ValueError):
    """The network uses an operation that the page cannot compute.

    Attributes:
        operation: its name in torch, such as `aten::upsample_bicubic2d`.
        module: the module that called it; empty for the network itself.
    """

    def __init__(self, operation: str, module: str) -> None:
        where = f"its layer {module}" if module else "it"
        super().__init__(f"cnnbench draw cannot evaluate this network: {where} uses {operation}, which has no kernel")
        self.operation, self.module = operation, module


@dataclass(eq=False)
class Layer:
    """One operation of a compiled network.

    Attributes:
        kind: the kernel of kernels.js that evaluates it.
        inputs: the layers that it reads; the image is a layer too.
        shape: of the output for one image.
        settings: plain data for the kernel.
        tensors: float64, for the kernel: `weights` and perhaps `bias`.
        name: of the module whose output it is, or of the one that called the operation.
        is_inner: whether it is a step inside a module of torch.
    """

    kind: str
    inputs: list["Layer"]
    shape: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    name: str = ""
    is_inner: bool = False


class Graph:
    """The layers of a forward pass of one image, and the layer that computes each tensor.

    Args:
        image: the network's input, (1, C, H, W).

    Attributes:
        module: the name of the running module.
        is_leaf: whether it contains no other modules.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = Layer("image", [], tuple(image.shape[1:]))
        self.layers: list[Layer] = []
        self.module = ""
        self.is_leaf = False
        # The tensors are kept, because another one could otherwise get the same id.
        self._known: dict[int, tuple[Tensor, Layer | None]] = {id(image): (image, self.image)}

    def depends_on_image(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the image."""
        return id(tensor) in self._known

    def add(
        self,
        kind: str,
        inputs: Sequence[Layer],
        output: Tensor,
        tensors: dict[str, Tensor] | None = None,
        **settings: Any,
    ) -> Layer:
        """Append a layer and its output, which may be a tensor that the operation has overwritten.

        Args:
            tensors, settings: as in `Layer`; tensors of any type.
        """
        exact = {name: tensor.detach().double() for name, tensor in (tensors or {}).items()}
        layer = Layer(kind, [*inputs], _drop_batch(output), settings, exact, self.module, self.is_leaf)
        self.layers.append(layer)
        if self.depends_on_image(output):
            self._forget_views(output)
        self._known[id(output)] = (output, layer)
        return layer

    def find(self, tensor: Tensor, like: Tensor | None = None) -> Layer:
        """The layer that computes a tensor, or a constant if it does not depend on the image.

        Args:
            like: the tensor is broadcast to its shape.
        """
        if not self.depends_on_image(tensor):
            value = tensor if like is None else tensor.expand(like.shape)
            return self.add("constant", [], value.clone(), {"weights": value})
        layer = self._known[id(tensor)][1]
        if layer is None:
            raise MissingKernel("an operation that overwrites what another tensor shows", self.module)
        if like is None or tensor.shape == like.shape:
            return layer
        places = torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape).expand(like.shape)
        return self.add_gather(layer, places, like.clone())

    def add_gather(self, source: Layer, places: Tensor, output: Tensor) -> Layer:
        """Append a layer that moves the values of another.

        Args:
            places: of each output, the index of its value in the source.
        """
        places = places.long()
        lines = [places.movedim(axis, 0).reshape(length, -1)[:, 0] for axis, length in enumerate(places.shape)]
        # Relative to the smallest along each axis, because the kernel fills places with negative offsets.
        offsets = [line - line.min() for line in lines]
        total = least = places.min()
        for axis, offset in enumerate(offsets):
            total = total + offset.view(-1, *[1] * (places.dim() - 1 - axis))
        # The kernel adds an offset for each axis. Not every move of values is such a sum.
        if not torch.equal(total, places):
            raise MissingKernel("an operation that moves values without the order of rows and columns", self.module)
        offsets[0] = offsets[0] + least
        return self.add("gather", [source], output, offsets=[offset.tolist() for offset in offsets], fill=0.0)

    def name_output(self, tensor: Tensor, module: str) -> None:
        """Note that a tensor is the output of a module."""
        layer = self._known[id(tensor)][1] if self.depends_on_image(tensor) else None
        if layer is not None and layer is not self.image:
            layer.name, layer.is_inner = module, False

    def _forget_views(self, overwritten: Tensor) -> None:
        """Forget the layers of other tensors in the same memory, which no longer hold their outputs."""
        storage = overwritten.untyped_storage().data_ptr()
        for key, (tensor, _) in self._known.items():
            if tensor.untyped_storage().data_ptr() == storage:
                self._known[key] = (tensor, None)


def _drop_batch(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def prune_layers(layers: Sequence[Layer], output: Layer) -> list[Layer]:
    """The layers on which an output depends; it is the last of them."""
    needed = {output}
    for layer in reversed(layers):
        if layer in needed:
            needed.update(layer.inputs)
    return [layer for layer in layers if layer in needed]


def fold_affine_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Merge each scale and shift of channels, such as a batch norm, into the convolution or dense layer before it.

    This is computed in float64, so that each weight is rounded once (Jacob et al., arXiv:1712.05877, section 3.2).
    """
    readers = Counter(other for layer in layers for other in layer.inputs)
    folded: dict[Layer, Layer] = {}
    kept: list[Layer] = []
    for layer in layers:
        layer.inputs = [folded.get(other, other) for other in layer.inputs]
        source = layer.inputs[0] if layer.inputs else layer
        if layer.kind != "affine" or source.kind not in WEIGHTED or readers[source] > 1:
            kept.append(layer)
            continue
        scale, shift = layer.tensors["weights"], layer.tensors["bias"]
        weights = source.tensors["weights"]
        bias = source.tensors.get("bias", weights.new_zeros(len(weights)))
        source.tensors["weights"] = weights * scale.view(-1, *[1] * (weights.dim() - 1))
        source.tensors["bias"] = bias * scale + shift
        source.name, source.is_inner = layer.name, layer.is_inner
        folded[layer], readers[source] = source, readers[layer]
    return kept


def choose_pictures(layers: Sequence[Layer]) -> set[Layer]:
    """The layers whose outputs are shown: the last step of each block, such as an activation."""
    followers: dict[Layer, list[Layer]] = {}
    for layer in layers:
        for other in layer.inputs:
            followers.setdefault(other, []).append(layer)
    return {
        layer
        for layer in layers
        if layer.kind not in MOVES and not layer.is_inner
        if layer not in followers or any(other.kind not in FOLLOW_UPS for other in followers[layer])
    }
