"""Where a network looked: Grad-CAM and occlusion maps, computed by captum (the extra `explain`).

Selvaraju et al., "Grad-CAM", arXiv:1610.02391; Zeiler and Fergus, "Visualizing and Understanding Convolutional
Networks", arXiv:1311.2901, section 4.2.
"""

import importlib.util
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INSTALL = "Grad-CAM and occlusion maps need the package captum: pip install 'cnnbench[explain]'"
WINDOW, STEP = 4, 8  # an occlusion window is a quarter of each side, and moves by an eighth of it at least
POSITIONS = 256  # windows evaluated together


def has_captum() -> bool:
    """Whether the package that computes the maps is installed."""
    return importlib.util.find_spec("captum") is not None


def compute_grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """How much each place of a layer's feature maps supports a class, float32 (N, H, W) or (N, L), at least 0.

    Each map is weighted by the mean gradient of the class's logit, and enlarged to the size of the images.

    Args:
        model: in evaluation mode.
        layer: a module whose output is (N, C, h, w), or (N, C, l).
        images: normalised, (N, C, H, W) or (N, C, L).
        targets: int64 (N,), a class for each image.
    """
    from captum.attr import LayerGradCam

    maps = LayerGradCam(model, layer).attribute(images, targets, relu_attributions=True)
    mode = "bilinear" if images.dim() == 4 else "linear"
    return F.interpolate(maps.detach().float(), images.shape[2:], mode=mode, align_corners=False).squeeze(1)


def choose_window(sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sides of an occlusion window, and its steps, along each axis."""
    return tuple(max(1, round(size / WINDOW)) for size in sizes), tuple(max(1, round(size / STEP)) for size in sizes)


@torch.no_grad()
def compute_occlusion(
    model: nn.Module, images: Tensor, targets: Tensor, window: Sequence[int], steps: Sequence[int]
) -> Tensor:
    """How far a class's logit falls where a window covers the image, float32 (N, H, W) or (N, L).

    A place has the mean over all windows that cover it. A covered pixel has the mean of the training images, which is 0
    after normalisation. Negative: the network is surer without it.

    Args:
        model, images, targets: as for `compute_grad_cam`.
        window, steps: sides of the window and its steps, along each axis.
    """
    from captum.attr import Occlusion

    channels = images.shape[1]
    found = Occlusion(model).attribute(
        images,
        sliding_window_shapes=(channels, *window),
        strides=(channels, *steps),
        target=targets,
        perturbations_per_eval=max(1, POSITIONS // max(1, len(images))),
    )
    return found[:, 0].float()
