"""The keys of a network."""

from cnnbench.config.keys import PartSection, key
from cnnbench.config.value_types import Activation, Initialisation, Parts

# MNIST and datasets like it, on which most recipes were found.
SMALL_GREY = ("digits", "mnist", "fashion_mnist", "kmnist", "emnist", "qmnist", "usps")


class ModelConfig(PartSection):
    """The network and its size."""

    name: str = key("The network", "lenet5")
    width: float = key("Multiplies every hidden channel and unit count", 1.0, gt=0, le=1000)
    depth: int = key("Multiplies the layers of every stage", 1, ge=1, le=100)
    activation: Activation = key("The nonlinearity between layers", "relu")
    dropout: float = key("Dropout rate after hidden dense layers, or else before the last layer", 0.0, ge=0, lt=1)
    init: Initialisation = key("Initialisation of the weights; default is torch's, as in the course", "default")
    init_std: float = key("Standard deviation of init=normal", 0.01, gt=0)
    weights: str | None = key(
        "Initial weights: a safetensors file, a state dict of torch, a run's folder or torchvision; null: random", None
    )
    weights_sha256: str | None = key(
        "The SHA-256 of the file of model.weights, or its first digits; read from the file if it is null", None
    )
    freeze: Parts = key(
        "Parts of the network that are not trained, as module paths or globs; features: all but the last part",
        [],
        accepted="none, features, or a list of module paths or globs, such as [features.stage1,*norm*]",
    )
    # Not a result: the config records what the overrides of a recipe set.
    recipe: list[str] = key("The overrides that recipe=true puts before the command's own", [], role="control")
    recipe_data: list[str] = key("The datasets that the recipe was made for", [*SMALL_GREY], role="control")
