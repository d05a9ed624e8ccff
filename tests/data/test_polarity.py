"""Which images are light on dark, and that a checkpoint says it."""

import numpy as np
import pytest
import torch
from test_training import run

from cnnbench.data import load_source, prepare
from cnnbench.data.polarity import DARK_ON_LIGHT, LIGHT_ON_DARK, find_polarity, has_other_polarity, measure_contrast
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.runs.folder import RunFolder
from cnnbench.training import checkpoint


@pytest.fixture(scope="module", params=[8, 28])
def digits(request):
    return prepare(load_source("digits", root="", download=False), seed=0, image_size=request.param)


def test_scikit_learns_digits_are_light_on_dark_and_their_negatives_are_not(digits):
    train, test = digits.train.images, digits.test.images.numpy()
    assert (find_polarity(train), find_polarity(255 - train)) == (LIGHT_ON_DARK, DARK_ON_LIGHT)
    assert not has_other_polarity(test, LIGHT_ON_DARK).any()
    assert has_other_polarity(255 - test, LIGHT_ON_DARK).all()
    assert not has_other_polarity(255 - test, DARK_ON_LIGHT).any()


def test_mnist_is_light_on_dark_to_the_last_image(mnist_root):
    mnist = load_source("mnist", root=mnist_root, download=False)
    assert find_polarity(mnist.train.images) == LIGHT_ON_DARK
    assert not has_other_polarity(mnist.test.images.numpy(), LIGHT_ON_DARK).any()
    assert has_other_polarity(255 - mnist.test.images.numpy(), LIGHT_ON_DARK).all()


def test_the_contrast_is_that_of_the_border_within_the_images_range():
    image = np.full((1, 1, 4, 4), 60, np.uint8)
    image[0, 0, 1:3, 1:3] = [[40, 120], [60, 60]]
    assert measure_contrast(image).item() == pytest.approx((2 * 60 - 40 - 120) / 80)
    assert measure_contrast(255 - image).item() == -measure_contrast(image).item()
    assert measure_contrast(np.full((2, 1, 1, 1), 7, np.uint8)).tolist() == [0, 0]


def test_an_image_of_one_brightness_is_never_reversed():
    flat = np.full((1, 1, 8, 8), 255, np.uint8)
    assert not has_other_polarity(flat, LIGHT_ON_DARK).any()
    assert not has_other_polarity(flat, DARK_ON_LIGHT).any()


def test_colour_signals_and_images_of_both_kinds_have_no_polarity(digits):
    images = digits.train.images
    assert find_polarity(images.expand(-1, 3, -1, -1)) is None
    assert find_polarity(images[:, 0].float()) is None
    assert find_polarity(torch.cat([images, 255 - images[: len(images) // 20]])) is None


def test_a_run_says_its_polarity_and_an_older_one_does_without(tmp_path):
    run(tmp_path / "a", "trainer.epochs=1")
    assert load_trained(tmp_path / "a").polarity == LIGHT_ON_DARK
    folder = RunFolder(tmp_path / "a").checkpoints
    tensors, record = checkpoint.load(folder, "best")
    del record["data"]["polarity"]
    checkpoint.save(folder, "best", tensors=tensors, record=record)
    assert load_trained(tmp_path / "a").polarity is None
