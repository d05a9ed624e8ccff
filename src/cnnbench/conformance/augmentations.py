"""What every augmentation must do, a preset of ours as well as a registered one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnbench.conformance.checking import NotApplicable, check, require
from cnnbench.data import Change
from cnnbench.reproducibility import make_generator

CLASSES, IMAGES, SIDE = 3, 6, 12


@dataclass(frozen=True)
class AugmentPart:
    """A preset, with the options of its YAML file.

    Attributes:
        make: the augmentation for images of so many channels; None if the preset changes nothing.
    """

    name: str
    make: Callable[[int], Change | None]

    def augment(self, channels: int, places: list[int], *, epoch: int = 3) -> tuple[Tensor, Tensor]:
        """Augment the images in these places, always the same ones; where images are mixed, the last is a partner."""
        change = self.make(channels)
        if change is None:
            raise NotApplicable("it changes nothing")
        random = make_generator(0, "conformance")
        images = torch.randint(256, (IMAGES, channels, SIDE, SIDE), dtype=torch.uint8, generator=random)
        labels = torch.arange(IMAGES) % CLASSES
        chosen = torch.tensor([*places, (places[-1] + 1) % IMAGES] if change.mixes else places)
        return change(images[chosen], labels[chosen], chosen, epoch)


@check("augment", "it keeps shape, type and range of the pixels")
def _check_pixels(part: AugmentPart) -> None:
    for channels in (1, 3):
        pixels, labels = part.augment(channels, [*range(IMAGES)])
        expected = (IMAGES, channels, SIDE, SIDE)
        require(tuple(pixels.shape) == expected, f"pixels {expected} become {tuple(pixels.shape)}")
        require(pixels.dtype == torch.float32, f"pixels must stay torch.float32, not {pixels.dtype}")
        require(pixels.isfinite().all(), "some pixels are not finite")
        require(float(pixels.min()) >= 0 and float(pixels.max()) <= 255, "some pixels lie outside 0…255")
        require(len(labels) == IMAGES, f"{IMAGES} images have {len(labels)} labels")


@check("augment", "an image is changed by its seed, epoch and index alone")
def _check_keys(part: AugmentPart) -> None:
    """To the bit, whatever state the global generators are in, and whatever ran before."""
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            part.augment(1, [2], epoch=seed)  # another call, which must leave no trace
            found.append(part.augment(1, [*range(IMAGES)])[0])
    require(torch.equal(*found), "the same images in the same epoch differ: draw all random numbers with draw(…)")


@check("augment", "an image alone is changed in the same way as in a batch")
def _check_batches(part: AugmentPart) -> None:
    together, _ = part.augment(3, [*range(IMAGES)])
    for place in (0, 3, IMAGES - 1):
        alone, _ = part.augment(3, [place])
        require(torch.equal(alone[0], together[place]), f"image {place} differs between a batch of {IMAGES} and alone")
