"""The keys of the images, and of their augmentation."""

from typing import Literal, Self

from pydantic import model_validator

from cnnbench.config.keys import PartSection, key
from cnnbench.config.seeds import Fold, read_fold
from cnnbench.config.value_types import Factors, Pixels, Seed, Shares, Sides


class DataConfig(PartSection):
    """The images, and how they are split and scaled."""

    name: str = key("The dataset", "digits")
    root: str = key("The folder where datasets are stored; $CNNBENCH_DATA if that is set", "data", role="place")
    download: bool = key("Download a dataset or weights of torchvision that are missing", True, role="place")
    val_fraction: float = key(
        "Share of the training images held out for validation, stratified; ignored if the data have a validation split",
        0.1,
        ge=0,
        lt=1,
    )
    test_fraction: float = key("Share of each class to test on, if the data have no test split", 0.2, gt=0, lt=1)
    test_seed: Seed = key("Seed of the test split that test_fraction cuts; independent of `seed` and `seeds`", 0)
    folds: int | None = key(
        "Cross-validate: test on one of this many folds of the training images; sweep.folds sets it", None, ge=2, le=100
    )
    fold: int | None = key("The fold to test on, from 1 to data.folds", None, ge=1)
    exclude: str | None = key("A CSV list of images to leave out of the data, as `cnnbench check` writes it", None)
    check: Literal["warn", "fail", "off"] = key(
        "Look for nearly equal images in two splits or with two labels before training, and warn of them or fail",
        "off",
        role="control",
    )
    train_limit: int | None = key("Train on at most this many images, stratified", None, ge=1)
    image_size: Pixels | Sides | None = key(
        "Resize images to N×N or [HEIGHT,WIDTH] pixels; null leaves them as they are",
        None,
        accepted="null, a whole number from 1 to 1024, or [HEIGHT,WIDTH] of such numbers",
    )
    normalize: Literal["half", "dataset", "none"] = key(
        "Scale pixels to -1…1 (half), by the training images' mean and deviation (dataset), or to 0…1 (none)", "half"
    )
    permute_pixels: bool = key("Shuffle the pixels of all images by one permutation, the same for every run", False)
    class_weights: Literal["none", "balanced"] = key(
        "balanced: weigh classes by n / (K · n_c) in the training loss", "none"
    )
    sampler: Literal["uniform", "balanced"] = key(
        "balanced: draw each class equally often, with replacement", "uniform"
    )

    @property
    def held_out(self) -> Fold | None:
        """The fold that is tested on; None tests on the test split."""
        return read_fold({"data": vars(self)})

    @model_validator(mode="after")
    def _check_fold(self) -> Self:
        read_fold({"data": vars(self)})
        return self


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
