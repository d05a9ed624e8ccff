"""Heat maps of the parts of an image that support the predicted class: Grad-CAM and occlusion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cnnbench.analysis.attribution import choose_window, compute_grad_cam, compute_occlusion, has_captum
from cnnbench.analysis.receptive_field import Field
from cnnbench.data import DatasetInfo
from cnnbench.models import collect_activations
from cnnbench.runs.explanation import ShownImage


class HeatMaps:
    """Computes Grad-CAM and occlusion maps of a network.

    Args:
        model: in evaluation mode, on its device.
        fields: of its modules, as `trace_fields` gives them.
    """

    def __init__(self, model: nn.Module, info: DatasetInfo, fields: Mapping[str, Field]) -> None:
        self.model = model
        self.window, self.steps = choose_window(info.size)  # sides of the window that occlusion covers
        image = next(model.parameters()).new_zeros(1, *info.input_shape)
        self.layer = _find_last_maps(model, image, fields)  # whose maps Grad-CAM weights; empty if there is none
        self.omitted: dict[str, str] = {}  # why a part is missing, as in `Explanation`
        if not has_captum():
            self.omitted = {"heat_maps": "no_captum"}
        elif not self.layer:
            self.omitted = {"grad_cam": "no_maps"}

    @property
    def preferred(self) -> str:
        """The kind of map to draw if only one is wanted: Grad-CAM, or occlusion if no block has maps."""
        return "grad_cam" if self.layer else "occlusion"

    def add(self, shown: Sequence[ShownImage], images: Tensor) -> list[ShownImage]:
        """Add prediction, probability and maps to each image; `images` are the same, as the network takes them."""
        with torch.no_grad():
            logits = self.model(images).float()
        predictions = logits.argmax(1)
        shares = logits.softmax(1)
        found = [
            replace(one, prediction=int(predictions[place]), probability=float(shares[place, predictions[place]]))
            for place, one in enumerate(shown)
        ]
        if not has_captum():
            return found
        return self.add_maps(found, images, ["occlusion", "grad_cam"] if self.layer else ["occlusion"])

    def add_maps(self, shown: Sequence[ShownImage], images: Tensor, kinds: Sequence[str]) -> list[ShownImage]:
        """Add maps of the predicted class to each image.

        Args:
            kinds: of `grad_cam` and `occlusion`; the first only if there is a `layer`.
        """
        targets = torch.tensor([one.prediction for one in shown], device=images.device)
        found = [*shown]
        for kind in kinds:
            if kind == "occlusion":
                maps = compute_occlusion(self.model, images, targets, self.window, self.steps)
            else:
                maps = compute_grad_cam(self.model, self.model.get_submodule(self.layer), images, targets)
            found = [replace(one, **{kind: some}) for one, some in zip(found, maps.cpu().numpy(), strict=True)]
        return found


@torch.no_grad()
def _find_last_maps(model: nn.Module, image: Tensor, fields: Mapping[str, Field]) -> str:
    """The last block with feature maps of several places, before anything sees the image as a whole; or ''."""
    last = ""
    wanted = tuple(range(2 - image.dim(), 0))  # channels first
    for name, tensor in collect_activations(model, image).items():
        field = fields.get(name)
        if tensor.dim() != image.dim() or field is None or field.dims != wanted or tensor.shape[1] < 2:
            continue
        if tensor[0, 0].numel() == 1:
            break  # a later layer may enlarge it again, which adds no places
        last = name
    return last
