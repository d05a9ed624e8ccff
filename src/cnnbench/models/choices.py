"""The options that several families share, and what they accept."""

from typing import Annotated, Literal

from pydantic import Field

from cnnbench.config.keys import Count, Options, key

Norm = Literal["none", "batch", "layer", "instance", "group", "lrn"]
Conv = Literal["standard", "depthwise_separable", "asymmetric"]
Pool = Literal["max", "avg", "stride", "none"]
Head = Literal["dense", "global_average"]
KernelSize = Annotated[int, Field(ge=1, le=7)]

Counts = Annotated[list[Count], Field(min_length=1)]
Stages = Annotated[list[Counts], Field(min_length=1)]
COUNTS = "a list of at least one whole number from 1"
STAGES = "a list of at least one stage, each a list of at least one whole number from 1"


class NormOptions(Options):
    """The options of a network with norms."""

    norm: Norm = key("Normalisation after each convolution")


class ClassifierOptions(NormOptions):
    """The options of a network that ends in `heads.Classifier`."""

    head: Head = key("How classes are read from the features")
