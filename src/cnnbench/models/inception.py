"""Inception for small images: several kernels side by side, 1×1 reductions before the costly ones.

Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842 (the module with reductions); two 3×3 in place of
the 5×5 and 1×3 + 3×1 in place of a 3×3 are from "Rethinking the Inception Architecture", arXiv:1512.00567.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from cnnbench.models.layers import Block, classifier, conv_block, pool_layer, scaled
from cnnbench.models.stages import check_stages
from cnnbench.registry import register

POOL_SHARE, LARGE_SHARE = 8, 8  # of a module's channels: an eighth each; half are 3×3's, a quarter 1×1's


class Branches(nn.Module):
    """Branches that see the same input, concatenated along the channels."""

    def __init__(self, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of the branches' channels, H, W)."""
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


def inception_module(entering: int, leaving: int, *, block: Block, conv: str, stacked: bool) -> Branches:
    """One module: 1×1; 1×1 and 3×3; 1×1 and 5×5; pooling and 1×1.

    Args:
        leaving: channels of all branches together.
        conv: how the branches' wide kernels are made.
        stacked: two 3×3 in place of the 5×5.
    """
    pooled, large = max(1, leaving // POOL_SHARE), max(1, leaving // LARGE_SHARE)
    plain = max(1, leaving // 4)
    medium = max(1, leaving - plain - large - pooled)
    few, fewer = max(1, medium // 2), max(1, large // 2)
    wide = partial(block, conv=conv)
    five = [wide(fewer, fewer, 3), wide(fewer, large, 3)] if stacked else [wide(fewer, large, 5)]
    return Branches(
        {
            "1x1": block(entering, plain, 1),
            "3x3": nn.Sequential(block(entering, few, 1), wide(few, medium, 3)),
            "5x5": nn.Sequential(block(entering, fewer, 1), *five),
            "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), block(entering, pooled, 1)),
        }
    )


def module_channels(leaving: int) -> int:
    """The channels that a module of `leaving` channels really has: at least one a branch."""
    return max(leaving, 4)


@register("model", "inception_mini")
def inception_mini(
    in_channels: int,
    image_size: Sequence[int],
    num_classes: int,
    width: float,
    depth: int,
    activation: str,
    dropout: float,
    stages: list[list[int]],
    stem: int,
    asymmetric: bool,
    stacked: bool,
    norm: str,
    pool: str,
    head: str,
) -> nn.Sequential:
    """A 3×3 stem, then stages of modules with a pooling before each.

    Shapes: images (N, C, H, W) to logits (N, num_classes).

    Args:
        stages: for each stage the channels of its modules.
        stem: filters of the first convolution.
        width: multiplies all channels.
        depth: repeats every module, and the stem, so many times.
        asymmetric: 1×3 and 3×1 in place of each 3×3 (and 5×1, 1×5 in place of each 5×5).
        stacked: two 3×3 in place of each 5×5.
        dropout: before the last layer.

    Raises:
        ValueError: a name that does not exist, no stage, or images of which nothing is left.
    """
    check_stages(stages, of="module's channels")
    block = partial(conv_block, activation=activation, norm=norm)
    conv = "asymmetric" if asymmetric else "standard"
    entering = scaled(stem, width)
    first = [block(in_channels, entering, 3, conv=conv)]
    first += [block(entering, entering, 3, conv=conv) for _ in range(depth - 1)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*first))
    for number, modules in enumerate(stages, 1):
        layers[f"pool{number}"] = pool_layer(pool, entering, block=block, window=3, stride=2, padding=1)
        stage = []
        for leaving in [module_channels(scaled(count, width)) for count in modules for _ in range(depth)]:
            stage.append(inception_module(entering, leaving, block=block, conv=conv, stacked=stacked))
            entering = leaving
        layers[f"stage{number}"] = nn.Sequential(*stage)
    return classifier(
        nn.Sequential(layers),
        (in_channels, *image_size),
        num_classes,
        head=head,
        activation=activation,
        dropout=dropout,
    )
