"""What comes out of a network, found on the meta device: shapes are computed, nothing is allocated."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def output_shape(module: nn.Module, input_shape: Sequence[int], *, training_batch: int = 0) -> tuple[int, ...]:
    """The shape of a module's output for one image (C, H, W) or signal (C, L), without the batch axis.

    Args:
        module: on any device, in any mode; left as it was.
        training_batch: run so many images as in training, with auxiliary heads; the shape is the first output's.

    Raises:
        ValueError: the input is too small for a layer; the message names that layer and what reached it.
    """
    reached: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    hooks = []
    for name, layer in module.named_modules():
        if not any(layer.children()):

            def before(layer: nn.Module, inputs: Any, name: str = name) -> None:
                if inputs and isinstance(inputs[0], Tensor):
                    reached.append((name, layer, tuple(inputs[0].shape[1:])))

            hooks.append(layer.register_forward_pre_hook(before))
    was_training = module.training
    weights = {name: torch.empty_like(value, device="meta") for name, value in module.state_dict().items()}
    try:
        module.train(training_batch > 0)
        with torch.no_grad():
            images = torch.empty(training_batch or 1, *input_shape, device="meta")
            output = torch.func.functional_call(module, weights, (images,), tie_weights=False)
    except (RuntimeError, ValueError) as error:
        hint = "; model.args={aux_logits: false} leaves out heads of torchvision's that only train"
        raise ValueError(_too_small(input_shape, reached, error) + hint * (training_batch > 0)) from None
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    first = output if isinstance(output, Tensor) else output[0]
    return tuple(first.shape[1:])


def _too_small(
    input_shape: Sequence[int], reached: Sequence[tuple[str, nn.Module, tuple[int, ...]]], error: Exception
) -> str:
    first_line = str(error).splitlines()[0]
    where = ""
    if reached:
        name, layer, shape = reached[-1]
        where = f"layer {name} ({layer}) cannot take the {_times(shape)} that reach it. "
    return (
        f"data of {_times(input_shape)} are too small for this network: {where}{first_line}. "
        "Larger images (data.image_size), a smaller model.kernel_size, model.padding=same or model.pool=none may help"
    )


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
