"""VGG for small images: stages of 3×3 convolutions, each stage followed by a pooling.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556. Batch
normalisation, which came later, is on in the yaml; `model.norm=none` is the paper's. The same code, with k×1 and 1×k in
place of k×k, is `asymmetric_cnn` (Szegedy et al., arXiv:1512.00567, section 3.2).
"""

from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from cnnbench.config.keys import Count, key
from cnnbench.models.blocks import Classifier, Style, make_conv_block, make_pool
from cnnbench.models.spec import STAGES, ClassifierOptions, Conv, KernelSize, NetworkSpec, Pool, Stages
from cnnbench.registry import register


class VGGOptions(ClassifierOptions):
    """What `configs/model/vgg_mini.yaml` and `asymmetric_cnn.yaml` set."""

    stages: Stages = key("Filters of each convolution, a list per stage", accepted=STAGES)
    hidden: list[Count] = key("Units of the dense layers before the last; head=global_average has none")
    kernel_size: KernelSize = key("Height and width of each convolution")
    padding: Literal["same", "valid"] = key("Padding of the convolutions")
    conv: Conv = key("Kind of the convolutions")
    groups: Count = key("Groups of every convolution but the first")
    pool: Pool = key("What shrinks the images after each stage")

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.groups > 1 and self.conv != "standard":
            raise ValueError(f"model.groups={self.groups} needs model.conv=standard: {self.conv} has its own groups")
        return self


@register("model", "asymmetric_cnn")
@register("model", "vgg_mini")
def vgg_mini(spec: NetworkSpec, options: VGGOptions) -> Classifier:
    """Stages of equal convolutions, a pooling after each; `[[64], [128], [256, 256]]` and so on is VGG-11's way.

    `depth` repeats every convolution and every hidden dense layer; dropout follows each hidden dense layer.
    """
    style = Style(spec.activation, options.norm, options.conv, options.padding)
    groups = {"groups": options.groups} if options.groups > 1 else {}
    channels = spec.in_channels
    features = nn.Sequential()
    for number, filters in enumerate(options.stages, 1):
        stage = nn.Sequential()
        for leaving in [spec.scale(count) for count in filters for _ in range(spec.depth)]:
            geometry = groups if len(features) or len(stage) else {}  # the images' few channels have no groups
            stage.append(make_conv_block(channels, leaving, options.kernel_size, style, **geometry))
            channels = leaving
        features.add_module(f"stage{number}", stage)
        features.add_module(f"pool{number}", make_pool(options.pool, channels, style))
    return Classifier(features, spec, options.head, hidden=[spec.scale(units) for units in options.hidden])
