"""The keys of `augment`."""

from cnnbench.config.keys import PartSection, key
from cnnbench.config.value_types import Factors, Shares


class AugmentConfig(PartSection):
    """The augmentation of training images, with random parameters for each image; by default none.

    A preset in `configs/augment/` sets these keys. Its `exceptions` apply to some datasets; overrides take precedence.
    A registered augmentation of the preset's name also changes the images, by its own options.
    """

    name: str = key("The preset that sets these keys", "none")
    flip: float = key("Share of images that are mirrored horizontally", 0.0, ge=0, le=1)
    crop: int = key("Shift by up to this many whole pixels: a random crop of the padded image", 0, ge=0, le=1024)
    rotate: float = key("Rotate by up to this many degrees either way", 0.0, ge=0, le=180)
    shift: float = key("Shift by up to this share of each side, either way", 0.0, ge=0, le=1)
    scale: Factors = key(
        "Smallest and largest scale factor", [1.0, 1.0], length=2, accepted="[LOW,HIGH] with 0 < LOW ≤ HIGH ≤ 10"
    )
    # Beyond 60 degrees, images are sheared beyond recognition.
    shear: float = key("Shear by up to this many degrees either way", 0.0, ge=0, le=60)
    erase: float = key("Share of images in which a random box is made black", 0.0, ge=0, le=1)
    erase_area: Shares = key(
        "Smallest and largest box, as a share of the image",
        [0.02, 0.2],
        length=2,
        accepted="[LOW,HIGH] with 0 < LOW ≤ HIGH ≤ 1",
    )
    brightness: float = key("Multiply by a factor of 1 ± this", 0.0, ge=0, le=1)
    contrast: float = key("Scale contrast by a factor of 1 ± this about the image's mean", 0.0, ge=0, le=1)
    mixup: float = key("Alpha of mixup's Beta distribution of weights", 0.0, ge=0, le=100)
    cutmix: float = key("Alpha of cutmix's Beta distribution of areas", 0.0, ge=0, le=100)
