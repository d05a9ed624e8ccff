"""Compile a trained network into a program for the page: a list of layers as plain data, and one block of weights.

The page evaluates it with kernels of its own (kernels.js, network.js) instead of a runtime such as onnxruntime-web.
That one is 14 MB of WebAssembly, which a page opened from a file cannot fetch, and it returns only layers that are
declared as outputs. Our kernels are 16 kB, and evaluate a LeNet-5 in less than a millisecond (benchmarks/LOG.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.analysis import trace_fields
from cnnbench.analysis.receptive_field import Field
from cnnbench.data.loader import make_permutation
from cnnbench.draw.layers import Layer, choose_pictures, fold_affine_layers, prune_layers
from cnnbench.draw.tracing import trace_network
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.report.documents import format_json

LARGEST_SIDE = 64
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Program:
    """A network as `network.js` evaluates it.

    Attributes:
        description: plain data; its layers are in the order of computation.
        weights: float32, little-endian; layers have offsets and lengths in it, counted in values.
        notes: what the user must know about its predictions.
    """

    description: dict[str, Any]
    weights: bytes
    notes: Sequence[str] = ()

    def as_json(self) -> str:
        """The description as JSON that may stand in a script element: a class name cannot end it."""
        return format_json(self.description)


def read_script() -> str:
    """The program text that evaluates programs: it defines the class `Network`, and no other name."""
    parts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("kernels.js", "network.js")]
    return "\n".join(['const Network = (() => {\n"use strict";', *parts, "return Network;\n})();\n"])


def compile_run(trained: Trained) -> Program:
    """Compile a finished run's best weights, with its normalisation, classes, temperature and permutation of pixels.

    The page computes in float32, also where the run trained in bf16 or fp16.

    Raises:
        ValueError: a run that the page cannot evaluate; the message says why.
    """
    info, config = trained.info, trained.config
    if why := _find_obstacle(trained):
        raise ValueError(f"{str(trained.folder.path)!r} {why}")
    network = trained.load_model(torch.device("cpu"))
    trained.require_classes(network)
    temperature, notes = trained.read_temperature()
    program = compile_network(
        network,
        info.input_shape,
        info.class_names,
        mean=trained.mean,
        std=trained.std,
        temperature=temperature.value if temperature else 1.0,
        permute_pixels=config.data.permute_pixels,
    )
    return replace(program, notes=notes)


def _find_obstacle(trained: Trained) -> str | None:
    info, name = trained.info, trained.config.model.name
    if info.dimensions != 2:
        return f"was trained on signals ({info.name}): draw takes runs of images"
    if name == "torchvision":
        return "has one of torchvision's networks: draw takes runs of cnnbench's own models"
    if info.in_channels not in CHANNELS:
        return f"was trained on images of {info.in_channels} channels: draw takes grey or colour images"
    if max(info.size) > LARGEST_SIDE:
        size = "×".join(map(str, info.size))
        return f"was trained on images of {size} pixels: draw takes up to {LARGEST_SIDE} a side (data.image_size)"
    return None


def compile_network(
    network: nn.Module,
    shape: Sequence[int],
    classes: Sequence[str],
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    temperature: float = 1.0,
    permute_pixels: bool = False,
) -> Program:
    """Compile a network that classifies images.

    Args:
        network: in float32 on the CPU; left as it was.
        shape: of an image, (C, H, W).
        mean, std: per channel, for pixels scaled to 0…1; a single number is for all channels.
        temperature: that its logits are divided by.
        permute_pixels: whether the network gets the pixels as `make_permutation` shuffles them.

    Raises:
        MissingKernel: the network uses an operation that the page cannot compute.
    """
    graph, logits = trace_network(network, shape)
    layers = fold_affine_layers(prune_layers(graph.layers, logits))
    if permute_pixels:
        layers.insert(0, _permute(graph.image, layers, shape))
    places = {graph.image: -1} | {layer: place for place, layer in enumerate(layers)}
    shown, fields = choose_pictures(layers), trace_fields(network, shape)
    weights = bytearray()
    rows = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "inputs": [places[other] for other in layer.inputs],
            "shape": list(layer.shape),
            "show": layer in shown,
            "receptive_field": _describe_field(fields.get(layer.name), layer.shape),
            **layer.settings,
            **{name: _append_tensor(weights, tensor) for name, tensor in layer.tensors.items()},
        }
        for layer in layers
    ]
    channels, height, width = shape
    image = {
        "channels": channels,
        "height": height,
        "width": width,
        "mean": [*mean] * (channels // len(mean)),
        "std": [*std] * (channels // len(std)),
    }
    description = {"input": image, "classes": [*classes], "temperature": temperature, "layers": rows}
    return Program(description, bytes(weights))


def _append_tensor(weights: bytearray, tensor: Tensor) -> list[int]:
    """Append a tensor to the block of weights; returns its offset and its number of values."""
    offset = len(weights) // 4
    weights += tensor.contiguous().numpy().astype("<f4").tobytes()
    return [offset, tensor.numel()]


def _permute(image: Layer, layers: Sequence[Layer], shape: Sequence[int]) -> Layer:
    """A layer that shuffles the pixels of each channel before all others."""
    channels, *sides = shape
    pixels = int(np.prod(sides))
    offsets = [[channel * pixels for channel in range(channels)], make_permutation(pixels).tolist()]
    permuted = Layer("gather", [image], tuple(shape), {"offsets": offsets, "fill": 0.0}, name="permute_pixels")
    for layer in layers:
        layer.inputs = [permuted if other is image else other for other in layer.inputs]
    return permuted


def _describe_field(field: Field | None, shape: Sequence[int]) -> dict[str, dict[str, float]] | None:
    """What a unit sees along rows and columns; None if it sees the whole image, or if no window describes it."""
    if field is None or len(shape) != 3 or field.dims != (-2, -1) or any(len(a.starts) > 1 for a in field.axes):
        return None
    return {
        name: {"size": axis.size, "stride": axis.jump, "start": axis.starts[0]}
        for name, axis in zip(("rows", "columns"), field.axes, strict=True)
    }
