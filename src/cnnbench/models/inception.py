"""Inception for small images: several kernels in parallel, 1×1 reductions before the expensive ones.

Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842 (the module with reductions); two 3×3 in place of
the 5×5 and 1×3 + 3×1 in place of a 3×3 are from "Rethinking the Inception Architecture", arXiv:1512.00567.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, ConvBlock, Style, make_conv_block, make_conv_stack, make_pool
from cnnbench.models.spec import STAGES, ClassifierOptions, NetworkSpec, Pool, Stages
from cnnbench.registry import register


class InceptionOptions(ClassifierOptions):
    """What `configs/model/inception_mini.yaml` sets."""

    stem: Count = key("Filters of the first convolution")
    stages: Stages = key("Channels of each module, a list per stage", accepted=STAGES)
    asymmetric: bool = key("Replace each 3×3 by 1×3 and 3×1, and each 5×5 by 1×5 and 5×1")
    stacked: bool = key("Replace each 5×5 by two 3×3")
    pool: Pool = key("What shrinks the images between stages")


class Inception(nn.Module):
    """One module (figure 2b of the paper): 1×1; 1×1 and 3×3; 1×1 and 5×5; pooling and 1×1; all concatenated.

    Args:
        out_channels: of all branches together, at least 4.
        stacked: two 3×3 in place of the 5×5.
    """

    def __init__(self, in_channels: int, out_channels: int, style: Style, *, stacked: bool) -> None:
        super().__init__()
        # A quarter, half and two eighths, as in module 3a of the paper's table 1.
        small = max(1, out_channels // 4)
        large = pooled = max(1, out_channels // 8)
        medium = max(1, out_channels - small - large - pooled)
        medium_reduced, large_reduced = max(1, medium // 2), max(1, large // 2)
        if stacked:
            five = [
                make_conv_block(large_reduced, large_reduced, 3, style),
                make_conv_block(large_reduced, large, 3, style),
            ]
        else:
            five = [make_conv_block(large_reduced, large, 5, style)]
        self.branches = nn.ModuleDict(
            {
                "1x1": ConvBlock(in_channels, small, 1, style),
                "3x3": nn.Sequential(
                    ConvBlock(in_channels, medium_reduced, 1, style), make_conv_block(medium_reduced, medium, 3, style)
                ),
                "5x5": nn.Sequential(ConvBlock(in_channels, large_reduced, 1, style), *five),
                "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBlock(in_channels, pooled, 1, style)),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


@register("model", "inception_mini")
def inception_mini(spec: NetworkSpec, options: InceptionOptions) -> Classifier:
    """A 3×3 stem, then stages of modules with a pooling before each.

    `depth` repeats every module, and the stem; dropout precedes the last layer.
    """
    plain = Style(spec.activation, options.norm)
    style = replace(plain, conv="asymmetric" if options.asymmetric else "standard")
    channels = spec.scale(options.stem)
    features = nn.Sequential()
    features.add_module("stem", make_conv_stack(spec.in_channels, channels, 3, style, depth=spec.depth))
    for number, stage in enumerate(options.stages, 1):
        pool = make_pool(options.pool, channels, plain, window=3, stride=2, padding=1)
        features.add_module(f"pool{number}", pool)
        modules = nn.Sequential()
        # Each of the four branches needs a channel.
        for leaving in [max(4, spec.scale(count)) for count in stage for _ in range(spec.depth)]:
            modules.append(Inception(channels, leaving, style, stacked=options.stacked))
            channels = leaving
        features.add_module(f"stage{number}", modules)
    return Classifier(features, spec, options.head)
