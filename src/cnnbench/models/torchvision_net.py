"""Any of torchvision's image classifiers, fitted to the data's channels, size and classes.

They start untrained, unless `model.weights=torchvision` asks for the weights that torchvision publishes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnbench.config.keys import Options, key
from cnnbench.models.shapes import compute_output_shape
from cnnbench.models.spec import NetworkSpec
from cnnbench.registry import describe_unknown, register
from cnnbench.storage.text import get_first_line

REFUSED = {
    **dict.fromkeys(("weights", "pretrained", "weights_backbone"), "model.weights=torchvision loads them"),
    "num_classes": "it follows from the data",
}
# Without it, torchvision warns and does the same.
INIT_WEIGHTS = {"googlenet": True, "inception_v3": True}


class TorchvisionOptions(Options):
    """What `configs/model/torchvision.yaml` sets."""

    arch: str = key("A name from torchvision.models.list_models")
    args: dict[str, Any] = key("Keyword arguments of that network, such as {dropout: 0.3}")


@register("model", "torchvision")
def torchvision_net(spec: NetworkSpec, options: TorchvisionOptions) -> nn.Module:
    """The network `torchvision.models.<arch>`, with as many input channels and classes as the data have.

    Transformers whose parts depend on the image size get it. googlenet and inception_v3 give a tuple while training:
    the logits, then those of each auxiliary classifier.

    Raises:
        ValueError: a width, depth, activation or dropout, which these networks do not have; an unknown arch or
            argument; images the network cannot take.
    """
    hint = "Set the arguments that it has with model.args, such as model.args={dropout: 0.3}"
    spec.require_defaults("width", "depth", "activation", "dropout", hint=hint)
    arch, args = options.arch, options.args
    models = _import_models(arch)
    for name in REFUSED.keys() & args.keys():
        raise ValueError(f"model.args.{name}={args[name]}: not accepted, because {REFUSED[name]}")
    given = {**_choose_arguments(arch, spec.image_size), **args}
    device = torch.get_default_device()
    try:
        # The constructors raise anything for wrong arguments, and none of their errors names a key of the config.
        with torch.device("cpu"), _WeightsOn(device):
            model = models.get_model(arch, weights=None, num_classes=spec.num_classes, **given).to(device)
    except Exception as error:
        raise ValueError(f"model.arch={arch} cannot be built with {given}: {get_first_line(error)}") from None
    if spec.in_channels != 3:
        _replace_first_channels(model, spec.in_channels)
    try:  # now, not at the first batch, before which all data are loaded
        compute_output_shape(model, spec.input_shape)
    except Exception as error:
        height, width = spec.image_size
        images = f"images of {height}×{width} pixels and {spec.in_channels} channel(s)"
        raise ValueError(f"model.arch={arch} cannot take {images}: {error}") from None
    return model


@dataclass(frozen=True)
class Published:
    """Weights that torchvision publishes for a network."""

    url: str
    sha256: str  # the first digits, which are part of the file's name
    side: int  # of the images that they were trained on, in pixels
    mean: list[float]  # of those images, by channel, for pixels from 0 to 1
    std: list[float]
    class_names: list[str]  # in the order of the logits

    @property
    def path(self) -> Path:
        """Where torchvision keeps them on this machine."""
        return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(self.url)

    def download(self) -> None:
        """Download them, complete or not at all.

        Raises:
            OSError, RuntimeError: they cannot be downloaded, or are not those that torchvision names.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(self.url, str(self.path), self.sha256, progress=False)


def find_torchvision_weights(arch: str) -> Published:
    """The newest weights that torchvision publishes for a network.

    Raises:
        ValueError: an unknown network, or one without weights.
    """
    models = _import_models(arch)
    try:
        found = models.get_model_weights(arch).DEFAULT
    except AttributeError:
        raise ValueError(f"model.weights=torchvision: torchvision has no weights for model.arch={arch}") from None
    images = found.transforms()
    digits = found.url.rpartition("-")[2].partition(".")[0]  # of a name such as resnet50-11ad3fa6.pth
    return Published(found.url, digits, images.crop_size[0], images.mean, images.std, found.meta["categories"])


def _import_models(arch: str) -> Any:
    """`torchvision.models`, which has this network."""
    import torchvision.models  # imported here, because it takes a second

    known = torchvision.models.list_models(module=torchvision.models)
    if arch not in known:
        raise ValueError(describe_unknown("model.arch", arch, known))
    return torchvision.models


class _WeightsOn(TorchFunctionMode):
    """Puts what `torch.empty` makes on a device; all else that a constructor computes stays on the CPU.

    RegNet derives its widths from tensors, and the meta device has no values.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty and options.get("device") is None:  # layers allocate their weights with it
            options["device"] = self.device
        return func(*args, **options)


def _choose_arguments(arch: str, image_size: Sequence[int]) -> dict[str, Any]:
    if arch.startswith("vit_"):  # its position embeddings have a fixed number
        if image_size[0] != image_size[1]:
            raise ValueError(f"model.arch={arch} takes square images, such as data.image_size={max(image_size)}")
        return {"image_size": image_size[0]}
    if arch.startswith("maxvit"):
        return {"input_size": tuple(image_size)}
    return {"init_weights": INIT_WEIGHTS[arch]} if arch in INIT_WEIGHTS else {}


def _replace_first_channels(model: nn.Module, in_channels: int) -> None:
    """Let the first convolution read `in_channels`."""
    # New weights are drawn from the existing ones, whose distribution differs from network to network.
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    before = first.weight.detach()
    drawn = torch.randint(before.numel(), (len(before), in_channels, *before.shape[2:]), device=before.device)
    first.in_channels = in_channels
    first.weight = nn.Parameter(before.flatten()[drawn])
