"""What a network costs and sees, from its shapes alone."""

import math

from cnnbench.claims.subjects import Network
from cnnbench.registry import register


@register("measure", "parameters", source="network", exact=True, low=0, high=math.inf)
def parameters(network: Network) -> float:
    """Numbers that training changes."""
    return network.summary.parameters


@register("measure", "macs", source="network", exact=True, low=0, high=math.inf)
def macs(network: Network) -> float:
    """Multiply-accumulates for one image."""
    return network.summary.macs


@register("measure", "receptive_field", source="network", exact=True, low=0, high=math.inf)
def receptive_field(network: Network) -> float:
    """Pixels along the longer side that one output of the last convolution or pooling sees, by formula."""
    return max(network.summary.receptive_field)
