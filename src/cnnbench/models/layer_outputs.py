"""The outputs of a network's layers and blocks, by name."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

OUTPUT = "output"


def collect_activations(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Run a network, and return the output of each of its blocks, in the order of computation.

    A block is a layer or a module that defines `forward`, such as a residual block. Containers that only chain others,
    such as a stage, are opened. Names are those of the weights: `features.stage1.0`, `head.classes`. The last entry,
    `output`, is the network's output. A block that runs twice has its last result; one that does not run, such as an
    auxiliary head after training, has none. The tensors are part of the graph, so that they have gradients.

    Args:
        model: in evaluation mode, unless dropout and the statistics of the batch are wanted.
        images: normalised images (N, C, H, W), or signals (N, C, L), on the model's device.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> Any:
        if not isinstance(output, Tensor):  # such as the pair that attention returns
            return output
        found[name] = output
        return output.clone()  # torchvision's activations write into their input, which would change what is kept

    hooks = [
        # `name=name` binds the name now: a closure would see the last one.
        block.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, block in find_blocks(model)
    ]
    try:
        found[OUTPUT] = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def find_blocks(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a network by name, as `collect_activations` sees them."""
    for name, module in model.named_children():
        # Lists and dicts of modules have no forward of their own: their members are called one by one.
        if type(module).forward in (nn.Sequential.forward, nn.Module.forward):
            yield from find_blocks(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


def compute_last_hidden(model: nn.Module, images: Tensor) -> Tensor:
    """The input of the last layer with weights, (N, D): the network's own description of each image.

    The input of a convolution is averaged over its positions. Arguments are those of `collect_activations`.

    Raises:
        ValueError: the network has no convolution and no dense layer.
    """
    read: list[Tensor] = []
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not read:
        raise ValueError("the network has no convolution and no dense layer")
    # The last one that ran, which need not be the last one that was registered.
    return read[-1].flatten(2).mean(2) if read[-1].dim() > 2 else read[-1]
