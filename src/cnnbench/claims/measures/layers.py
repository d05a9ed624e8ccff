"""What the layers of a trained network have learned: edges in the first one, classes in the last.

torch is imported where it is used, because listing claims must not wait for it.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnbench.claims.subjects import FinishedRun
from cnnbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnnbench.experiment.evaluate import Measurement

IMAGES = 2000  # of each split, at most
ANGLES = 12  # orientations, 15° apart


@register("measure", "edge_gain", source="run", low=-1, high=1)
def edge_gain(run: FinishedRun) -> float:
    """Share of the first convolution's filters that oriented edges and bars describe, minus that before training.

    For each filter, the share of its variance that lies in the plane of an edge and a bar of one orientation and width,
    at the orientation and width where that is largest. Random filters have some by chance, so that is subtracted.
    """
    from torch import nn

    from cnnbench.experiment.build import make_model

    ready = run.prepare("test")
    shares = []
    for model in (ready.model, make_model(ready.trained.config, ready.trained.info)):
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        if not layers or min(layers[0].kernel_size) < 3:
            raise ValueError(f"{run.path}: its network does not begin with a convolution of 3×3 or more")
        shares.append(float(compute_edge_shares(layers[0].weight.detach().cpu()).mean()))
    return shares[0] - shares[1]


def compute_edge_shares(filters: "Tensor") -> "Tensor":
    """The share of each filter's variance that the best oriented edge and bar describe, (N,).

    Edge and bar are the sine and cosine of a plane wave under a Gaussian window, one or half a period of it across the
    filter: Gabor functions, of any phase between them. The mean of each channel is not counted.

    Args:
        filters: (N, C, H, W); channels have their own mixture of edge and bar, and a common orientation and width.
    """
    import torch

    height, width = filters.shape[2:]
    side = max(height, width)
    y, x = torch.meshgrid(*(torch.arange(n).double() - (n - 1) / 2 for n in (height, width)), indexing="ij")
    window = torch.exp(-2 * (x.square() + y.square()) / side**2)  # its deviation is half a side
    values = filters.double().flatten(2)
    values = values - values.mean(2, keepdim=True)
    total = values.square().sum((1, 2))
    best = torch.zeros_like(total)
    for step in range(ANGLES):
        angle = math.pi * step / ANGLES
        for period in (side, 2 * side):
            phase = 2 * math.pi / period * (x * math.cos(angle) + y * math.sin(angle))
            plane = torch.stack([window * phase.sin(), window * phase.cos()]).flatten(1)
            axes = torch.linalg.qr((plane - plane.mean(1, keepdim=True)).T).Q
            best = torch.maximum(best, (values @ axes).square().sum((1, 2)))
    return torch.where(total > 0, best / total, 0.0)


@register("measure", "separability_growth", source="run", low=-1, high=1)
def separability_growth(run: FinishedRun) -> float:
    """How much better the last hidden layer separates the classes than the first layer does.

    A layer separates as many test images as lie nearest to the mean of their own class, among the means of all classes
    on training images. Nothing is fitted, so that a wide layer has no advantage.
    """
    from cnnbench.models import collect_activations, compute_last_hidden
    from cnnbench.models.activations import find_blocks

    train, test = run.prepare("train"), run.prepare("test")
    if not train.trained.info.class_names:
        raise ValueError(f"{run.path} has no classes")
    test.model.eval()
    names = [name for name, block in find_blocks(test.model) if any(True for _ in block.parameters())]

    def read_first(model: "nn.Module", images: "Tensor") -> "Tensor":
        return collect_activations(model, images)[names[0]].flatten(1)

    last, first = (_measure_separability(train, test, read) for read in (compute_last_hidden, read_first))
    return last - first


def _measure_separability(
    train: "Measurement", test: "Measurement", read: Callable[["nn.Module", "Tensor"], "Tensor"]
) -> float:
    """The share of test images that lie nearest to their class's mean, in the features that `read` finds."""
    import torch

    features, labels = [], []
    for ready in (train, test):
        batches, seen = [], 0
        with torch.no_grad():
            for images, targets in ready.serve(ready.found.split).iterate_epoch():
                batches.append((read(test.model, images), targets))
                seen += len(targets)
                if seen >= IMAGES:
                    break
        features.append(torch.cat([found for found, _ in batches])[:IMAGES])
        labels.append(torch.cat([targets for _, targets in batches])[:IMAGES])
    return float((find_nearest_class(features[0], features[1], labels[0]) == labels[1]).double().mean())


def find_nearest_class(known: "Tensor", asked: "Tensor", labels: "Tensor") -> "Tensor":
    """The class whose mean among the known features lies nearest to each of the asked ones, (N,).

    Args:
        known, asked: (M, D) and (N, D).
        labels: of the known ones, (M,).
    """
    import torch

    classes = labels.unique()
    means = torch.stack([known[labels == one].double().mean(0) for one in classes])
    return classes[torch.cdist(asked.double(), means).argmin(1)]
