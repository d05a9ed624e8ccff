"""The shape of a network's output, found by a forward pass on the module's own device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from cnnbench.storage.text import get_first_line


def compute_output_shape(module: nn.Module, input_shape: Sequence[int], *, training_batch: int = 0) -> tuple[int, ...]:
    """The shape of a module's output for one image (C, H, W) or signal (C, L), without the batch axis.

    Args:
        module: on any device, in any mode; left as it was.
        training_batch: how many images to run as in training, with auxiliary heads; the shape is the first output's.

    Raises:
        ValueError: the input is too small for a layer; the message names that layer and what reached it.
    """
    leaves = {layer: name for name, layer in module.named_modules() if not any(layer.children())}
    reached: list[tuple[nn.Module, Sequence[int]]] = []

    def note(layer: nn.Module, inputs: Any) -> None:
        if layer in leaves and inputs and isinstance(inputs[0], Tensor):
            reached.append((layer, inputs[0].shape[1:]))

    hook = register_module_forward_pre_hook(note)
    was_training = module.training
    buffers = {name: value.clone() for name, value in module.named_buffers()}  # batch norms would update their own
    weight = next(module.parameters(), torch.empty(0))  # has the device and the type of the input
    try:
        module.train(training_batch > 0)
        # Not moved to the meta device: torch would import its compiler there, which takes longer than one image.
        # The generator is restored, because dropout draws from it in training mode.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            images = weight.new_zeros(training_batch or 1, *input_shape)
            output = torch.func.functional_call(module, buffers, (images,), tie_weights=False)
    except (RuntimeError, ValueError) as error:
        where = ""
        if reached:
            layer, shape = reached[-1]
            where = f"layer {leaves[layer]} ({layer}) cannot take the {format_shape(shape)} that reach it. "
        hint = "; model.args={aux_logits: false} leaves out heads of torchvision's that only train"
        raise ValueError(
            f"data of {format_shape(input_shape)} are too small for this network: {where}"
            f"{get_first_line(error)}. Larger images (data.image_size), a smaller model.kernel_size, "
            f"model.padding=same or model.pool=none may help{hint if training_batch else ''}"
        ) from None
    finally:
        module.train(was_training)
        hook.remove()
    first = output if isinstance(output, Tensor) else output[0]
    return tuple(first.shape[1:])


def format_shape(shape: Sequence[int]) -> str:
    """A shape as messages write it, such as `3×32×32`."""
    return "×".join(map(str, shape))
