"""What the layers of a trained network have learned: edges in the first one, classes in the last.

torch is imported where it is used, because listing claims must not wait for it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnbench.claims.subjects import FinishedRun
from cnnbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnnbench.experiment.measuring.measurement import Measurement

IMAGES = 2000  # of each split, at most


@register("measure", "edge_gain", source="run", low=-1, high=1)
def edge_gain(run: FinishedRun) -> float:
    """How much nearer to edges and bars training brought the filters of the first convolution.

    The mean coherence of the filters, minus that before training: random filters have some by chance.
    """
    from torch import nn

    from cnnbench.experiment.factories import make_model

    ready = run.prepare("test")
    means = []
    for model in (ready.model, make_model(ready.trained.config, ready.trained.info)):
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        if not layers or min(layers[0].kernel_size) < 3:
            raise ValueError(f"{run.path}: its network does not begin with a convolution of 3×3 or more")
        means.append(float(compute_coherence(layers[0].weight.detach().cpu()).mean()))
    return means[0] - means[1]


def compute_coherence(filters: "Tensor") -> "Tensor":
    """How far each filter varies along one direction only, (N,): 1 for an edge or a bar, 0 for a blob or a constant.

    With λ₁ ≥ λ₂ the eigenvalues of the filter's structure tensor, summed over positions and channels, it is
    (λ₁ − λ₂) / (λ₁ + λ₂) (Bigün and Granlund, "Optimal Orientation Detection of Linear Symmetry", 1987). A 5×5 filter
    of noise has 0.31, and 0.44 if the noise was blurred by a pixel: smooth filters are not edges yet.

    Args:
        filters: (N, C, H, W).
    """
    import torch

    values = filters.double()
    down, right = values[:, :, 1:] - values[:, :, :-1], values[..., 1:] - values[..., :-1]
    y, x = (down[..., 1:] + down[..., :-1]).flatten(1), (right[:, :, 1:] + right[:, :, :-1]).flatten(1)
    xx, yy, xy = (torch.linalg.vecdot(one, other) for one, other in ((x, x), (y, y), (x, y)))
    total = xx + yy
    # λ₁ − λ₂ and λ₁ + λ₂ of a symmetric 2×2 matrix; a constant filter has neither.
    return torch.where(total > 0, ((xx - yy).square() + 4 * xy.square()).sqrt() / total, 0.0)


@register("measure", "separability_growth", source="run", low=-1, high=1)
def separability_growth(run: FinishedRun) -> float:
    """How much better the last hidden layer separates the classes than the first layer does.

    A layer separates as many test images as lie nearest to the mean of their own class, among the means of all classes
    on training images. Nothing is fitted, so that a wide layer has no advantage.
    """
    from cnnbench.models import collect_activations, compute_last_hidden
    from cnnbench.models.layer_outputs import find_blocks

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


def find_nearest_class(known: "Tensor", queries: "Tensor", labels: "Tensor") -> "Tensor":
    """The class whose mean among the known features lies nearest to each query, (N,).

    Args:
        known, queries: (M, D) and (N, D).
        labels: of the known ones, (M,).
    """
    import torch

    classes = labels.unique()
    means = torch.stack([known[labels == one].double().mean(0) for one in classes])
    return classes[torch.cdist(queries.double(), means).argmin(1)]
