"""What `cnnbench explain` finds out about a network, as plain data, ready to be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnbench.runs.robustness import Robustness


@dataclass(frozen=True)
class Filters:
    """Weights of the first layer.

    Attributes:
        layer: its name.
        is_dense: the weights of units of a dense layer, each in the shape of an image.
        weights: float32, (F, C, h, w), or (F, C, l) for signals.
        total: how many the layer has.
    """

    layer: str
    is_dense: bool
    weights: np.ndarray
    total: int


@dataclass(frozen=True)
class Activation:
    """What a block gives for one image.

    Attributes:
        values: feature maps, float32 (k, h, w) or (k, l), of some channels; or the units of a dense layer, (k,).
        shape: of the whole output.
    """

    block: str
    values: np.ndarray
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SeenPart:
    """What the middle output of a block sees of the image.

    Attributes:
        size: its receptive field along each axis.
        spans: the first and the last position along each axis; padding lies below 0 and beyond the image.
    """

    block: str
    size: tuple[int, ...]
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ShownImage:
    """An image, and how the network sees it.

    Attributes:
        name: a file, or the place in the test split.
        pixels: uint8 (C, H, W), or float32 (C, L).
        label: its class; None if it is unknown.
        prediction, probability: None in a run without classes.
        grad_cam, occlusion: float32 (H, W) or (L,), of the predicted class; None if there is none.
    """

    name: str
    pixels: np.ndarray
    is_test: bool = False
    label: int | None = None
    prediction: int | None = None
    probability: float | None = None
    activations: Sequence[Activation] = ()
    grad_cam: np.ndarray | None = None
    occlusion: np.ndarray | None = None


@dataclass(frozen=True)
class Embedding:
    """Images on a plane, by what the last hidden layer says of them.

    Attributes:
        units: of that layer.
        labels: int64 (N,); is_wrong: bool (N,).
        planes: the places, (N, 2), by the name of the method.
    """

    units: int
    labels: np.ndarray
    is_wrong: np.ndarray
    planes: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Mistakes:
    """The most confident mistakes, as `plot_mistakes` takes them."""

    images: np.ndarray
    predicted: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """All that is known of a run's network.

    Attributes:
        model, data: their names.
        grad_cam_layer: the block whose maps Grad-CAM weights; empty if there is none.
        window: sides of the window that occlusion covers.
        omitted: why a part is missing, by the part; a name in the page's texts.
        notes: what a reader must know of the images.
    """

    model: str
    data: str
    class_names: Sequence[str]
    images: Sequence[ShownImage]
    filters: Filters | None = None
    seen: Sequence[SeenPart] = ()
    grad_cam_layer: str = ""
    window: tuple[int, ...] = ()
    embedding: Embedding | None = None
    mistakes: Mistakes | None = None
    shift: Robustness | None = None
    omitted: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
