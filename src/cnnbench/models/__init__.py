"""Networks: each file registers one family; `build_model` makes one that fits the data."""

import cnnbench.models as _package
from cnnbench import registry
from cnnbench.models.build import build_model
from cnnbench.models.layer_outputs import collect_activations, compute_last_hidden
from cnnbench.models.shapes import compute_output_shape
from cnnbench.models.spec import NetworkSpec

registry.discover(_package)

__all__ = ["NetworkSpec", "build_model", "collect_activations", "compute_last_hidden", "compute_output_shape"]
