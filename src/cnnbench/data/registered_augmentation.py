"""Augmentations registered by name: functions of a batch's pixels and of keyed random numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from cnnbench import registry
from cnnbench.data.augmentation import Augmentation
from cnnbench.data.keyed_numbers import KeyedNumbers


class Transform(Protocol):
    """A function below `@register("augment", NAME)`, with its options given."""

    def __call__(self, *, pixels: Tensor, draw: KeyedNumbers) -> Tensor:
        """Pixels 0…255, float32 (N, C, H, W), to pixels of the same shape; results beyond 0…255 are cut off."""


@dataclass(frozen=True)
class RegisteredAugmentation:
    """A registered augmentation, after the one that the keys of `augment` ask for, if any."""

    name: str
    transform: Transform
    before: Augmentation | None
    seed: int

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with a partner, before the transform."""
        return self.before is not None and self.before.mixes

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Augment the images of a batch, as `Augmentation` does; a transform that changes shape or type is refused."""
        pixels = images.float()
        if self.before is not None:
            pixels, labels = self.before(images, labels, indices, epoch)
        shape = pixels.shape
        changed = self.transform(pixels=pixels, draw=KeyedNumbers(indices[: len(pixels)], self.seed, epoch))
        if changed.shape != shape or changed.dtype != pixels.dtype:
            raise ValueError(
                f"augment={self.name} returned {changed.dtype} {tuple(changed.shape)}: must be {pixels.dtype} "
                f"{tuple(shape)}, as before"
            )
        return changed.clamp(0, 255), labels


def find_transform(name: str, options: Mapping[str, Any]) -> Transform | None:
    """The registered augmentation of this name; None for a preset that sets only keys.

    Raises:
        ValueError: an unknown, missing or wrong option.
    """
    if name not in registry.list_names("augment"):
        return None
    checked = registry.check_options("augment", name, options)
    return partial(registry.find_part("augment", name), **({} if checked is None else {"options": checked}))
