"""Record the layers of a network from the forward pass of one image.

A `TorchDispatchMode` sees every operation that reaches ATen, whatever functions and modules a network calls. So does
torch's exporter, but it imports torch's compiler, which takes seconds (benchmarks/LOG.md).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.analysis.operations import find_tensors
from cnnbench.draw.kernels import KERNELS, Call
from cnnbench.draw.layers import Graph, Layer, MissingKernel


def trace_network(network: nn.Module, shape: Sequence[int]) -> tuple[Graph, Layer]:
    """The layers of a network, and the one that gives its logits.

    Args:
        network: in float32 on the CPU; a copy of it runs.
        shape: of an image, (C, H, W).

    Raises:
        MissingKernel: it uses an operation that the page cannot compute.
    """
    # For weights with their channels last, torch would add operations that only rearrange memory.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()
    image = torch.zeros(1, *shape)
    graph = Graph(image)
    _follow_modules(network, graph)
    with torch.no_grad(), _Recorder(graph):
        logits = network(image)
    return graph, graph.find(logits)


def _follow_modules(network: nn.Module, graph: Graph) -> None:
    """Record the name of the running module in the graph, and name each module's output."""
    running: list[tuple[str, bool]] = [("", False)]

    def begin(name: str, module: nn.Module, inputs: Any) -> None:
        running.append((name, not any(module.children())))
        graph.module, graph.is_leaf = running[-1]

    def end(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        graph.module, graph.is_leaf = running[-1]
        # The output of a container that only chains others is named by its last member; a dropout returns its input.
        is_chain = type(module).forward is nn.Sequential.forward
        if name and not is_chain and isinstance(output, Tensor) and not any(output is one for one in inputs):
            graph.name_output(output, name)

    for name, module in network.named_modules():
        module.register_forward_pre_hook(lambda *found, name=name: begin(name, *found))
        module.register_forward_hook(lambda *found, name=name: end(name, *found))


class _Recorder(TorchDispatchMode):
    """Adds a layer to a graph for each operation that depends on the image."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch imports its compiler, to exclude this class from it, which takes longer than all the rest.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not any(self.graph.depends_on_image(tensor) for tensor in find_tensors((args, kwargs))):
            return output  # computed from weights alone, so it is a weight itself
        name = func._schema.name.removeprefix("aten::")
        kernel = KERNELS.get(name) or KERNELS.get(name.removesuffix("_"))
        if kernel is None:
            raise MissingKernel(func._schema.name, self.graph.module)
        given = {argument.name: argument.default_value for argument in func._schema.arguments}
        given |= dict(zip(given, args, strict=False)) | kwargs
        kernel(Call(self.graph, func, given, output))
        return output
