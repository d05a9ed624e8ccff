"""A training step as a CUDA graph: its kernels are recorded once, then launched together at every step.

A small network keeps a GPU waiting for Python, which launches some hundred kernels a step; a graph is one launch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cnnbench.training.torch_optimizers import Optimizer

Batch = tuple[Tensor, Tensor]  # images and labels
Outputs = tuple[Tensor | None, ...]
WARM_UP = 3  # eager steps before the recording: libraries and the optimizer allocate what they keep


def check_graph(device: torch.device, precision: str, *, compiled: bool, devices: int = 1) -> None:
    """Check that a run's step can be recorded.

    Raises:
        ValueError: another device than CUDA, fp16, whose scale would be recorded with the step, a compiled model, or
            several devices.
    """
    if device.type != "cuda":
        raise ValueError(f"trainer.graph=true needs trainer.device=cuda; on {device.type} use trainer.graph=false")
    if precision == "fp16":
        raise ValueError("trainer.graph=true needs trainer.precision=fp32 or bf16, not fp16")
    if compiled:
        raise ValueError("trainer.graph=true and trainer.compile=true cannot be combined: use one of them")
    if devices > 1:
        raise ValueError(f"trainer.graph=true and trainer.devices={devices} cannot be combined: use one of them")


def make_capturable(optimizer: Optimizer) -> None:
    """Keep the learning rate in a tensor, which a graph reads at every step; a number would be recorded with it."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)
        if "capturable" in group:
            group["capturable"] = True


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of the next step, times the `rate` of each group; a tensor stays where it is."""
    for group in optimizer.param_groups:
        own = lr * group.get("rate", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def record_on_cuda(step: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
    """Record the kernels of a step without running them; return the graph, and the outputs that a replay overwrites."""
    # Dropout still follows `seed_model_noise`: each replay reads the seed of CUDA's default generator anew.
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    return graph.replay, outputs


def run_beside(step: Callable[[], Outputs]) -> Outputs:
    """Run a step on a side stream, as CUDA requires of the steps before a recording."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        outputs = step()
    current.wait_stream(stream)
    for output in outputs:
        if output is not None:
            output.record_stream(current)  # otherwise its memory could be reused while `current` still reads it
    return outputs


@dataclass
class StepGraph:
    """Runs steps: the first few eagerly, then from a recording; a smaller step always eagerly.

    Args:
        images: of a full step, the only one that is recorded.
        record, warm_up: replaced in tests on the CPU, which has no graphs.
    """

    images: int
    record: Callable[[Callable[[], Outputs]], tuple[Callable[[], None], Outputs]] = record_on_cuda
    warm_up: Callable[[Callable[[], Outputs]], Outputs] = run_beside
    _eager_steps: int = 0
    _inputs: list[Batch] = field(default_factory=list)
    _replay: Callable[[], None] | None = None
    _outputs: Outputs = ()

    def run(self, step: Callable[[Sequence[Batch], int], Any], batches: Sequence[Batch], count: int) -> Any:
        """`step(batches, count)`; its outputs are valid until the next call.

        Args:
            step: returns tensors, or None in the place of one; it neither waits for the device nor branches on a value
                computed there.
            count: how many images the batches have together.
        """
        if count != self.images:  # an epoch's last step: another shape
            return step(batches, count)
        if self._eager_steps < WARM_UP:
            self._eager_steps += 1
            return self.warm_up(lambda: step(batches, count))
        if self._replay is None:
            self._inputs = [(torch.empty_like(images), torch.empty_like(labels)) for images, labels in batches]
        # The graph reads the addresses that it was recorded with, so each batch is copied there.
        for (own_images, own_labels), (images, labels) in zip(self._inputs, batches, strict=True):
            own_images.copy_(images)
            own_labels.copy_(labels)
        if self._replay is None:
            self._replay, self._outputs = self.record(lambda: step(self._inputs, count))
        self._replay()
        return self._outputs
