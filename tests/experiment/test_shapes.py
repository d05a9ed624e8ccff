"""Images that are not square, from files to predictions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.cli.summary import describe, read_size
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.data import DatasetInfo, Split, prepare
from cnnbench.data.augmentation import Augmentation
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import decode_image
from cnnbench.data.preparation import resize
from cnnbench.data.sources import load_source
from cnnbench.experiment.factories import make_augmentation
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.experiment.measuring.trained import load_trained
from cnnbench.experiment.run import run_job
from cnnbench.runs.contents import read_predictions

OFF = {"flip": 0, "crop": 0, "rotate": 0, "shift": 0, "scale": (1, 1), "shear": 0, "erase": 0, "erase_area": (0.1, 0.1)}
OFF |= {"brightness": 0, "contrast": 0, "mixup": 0, "cutmix": 0}


def augmentation(**knobs):
    return Augmentation(seed=0, num_classes=2, device=torch.device("cpu"), **(OFF | knobs))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures, 20 wide and 12 high, of two classes: light on the left, or on the right."""
    folder, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(12):
            side = "left" if number % 2 else "right"
            pixels = noise.integers(0, 60, (12, 20), np.uint8)
            pixels[:, slice(10) if number % 2 else slice(10, None)] += 150
            path = folder / split / side / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.parametrize(("asked", "shape"), [("null", (12, 20)), ("[10,24]", (10, 24))])
def test_a_run_on_pictures_that_are_not_square_can_be_evaluated_and_asked(asked, shape, photos, tmp_path):
    given = [
        "data=image_folder",
        f"data.path={photos}",
        f"data.image_size={asked}",
        "data.cache=null",
        "data.workers=0",
    ]
    given += ["data.val_fraction=0", "augment=strong", "augment.flip=0", "model=mlp", "trainer.epochs=2"]
    config = compose_config(given)
    assert from_dict(to_dict(config)) == config
    run_job(config, tmp_path, given)
    trained = load_trained(tmp_path)
    assert (trained.info.size, trained.info.input_shape) == (shape, (1, *shape))
    found = read_predictions(tmp_path)["probabilities"]
    folder, metrics = evaluate_run(tmp_path)
    assert metrics["images"] == 12
    np.testing.assert_allclose(read_predictions(folder)["probabilities"], found, atol=1e-6)
    files = [str(path) for path in sorted((photos / "test/left").iterdir())]
    (asked_of,) = Predictor(tmp_path).predict(files, top=2, workers=0)
    left = found[read_predictions(tmp_path)["labels"] == 0]
    for prediction, row in zip(asked_of, left, strict=True):
        assert list(prediction.probabilities) == pytest.approx(row[list(prediction.classes)].tolist(), abs=1e-6)
    streamed = load_dataset(compose_config([*given, "data.memory_limit=1"])).test
    assert torch.equal(torch.cat([*streamed.iterate_chunks()]), load_dataset(config).test.images)


def test_data_in_memory_are_resized_to_both_sides():
    digits = load_source("digits", root="", download=False)
    dataset = prepare(digits, seed=0, test_fraction=0.2, image_size=[6, 10])
    assert (dataset.info.image_size, dataset.train.shape) == ((6, 10), (1, 6, 10))
    assert prepare(digits, seed=0, test_fraction=0.2, image_size=[8, 8]).info == digits.info
    turned = Split(dataset.test.images.transpose(2, 3), dataset.test.labels)
    there = resize(Split(digits.train.images.transpose(2, 3), digits.train.labels), 10, 6)
    back = resize(digits.train, 6, 10)
    assert (there.images.transpose(2, 3).int() - back.images.int()).abs().max() <= 1
    assert turned.shape == (1, 10, 6)


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_files_are_fitted_into_a_size_that_is_not_square(resize, tmp_path):
    pixels = np.zeros((20, 20), np.uint8)
    pixels[5:15, :] = 200  # a band across
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = decode_image(tmp_path / "a.png", Decoding(1, (10, 20), resize, (255, 255, 255)))[0]
    assert found.shape == (10, 20)
    expected = {"stretch": (0, 200), "pad": (255, 255), "crop": (200, 200)}[resize]
    assert (found[0, 0], found[5, 0]) == expected
    assert found[5, 10] == 200
    tall = decode_image(tmp_path / "a.png", Decoding(1, (20, 10), resize, (255, 255, 255)))[0]
    assert tall.shape == (20, 10)
    assert tall[10, 5] == 200
    assert tall[0, 0] == (255 if resize == "pad" else 0)


def test_augmentation_keeps_a_form_that_is_not_square():
    images = torch.randint(0, 256, (64, 1, 6, 11), dtype=torch.uint8)
    labels, indices = torch.arange(64) % 2, torch.arange(64)
    for knobs in ({"rotate": 20, "scale": (0.8, 1.2)}, {"shift": 0.3}, {"crop": 3}, {"erase": 1.0}, {"cutmix": 1.0}):
        made, _ = augmentation(**knobs)(images, labels, indices, 0)
        assert made.shape[-2:] == (6, 11)
    # Half a turn is both mirrors at once, in any form.
    maps = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]])
    from cnnbench.data.augmentation import compute_grid

    across, down = compute_grid(maps, 6, 11)
    grid = (across + down).permute(0, 2, 3, 1)
    turned = torch.nn.functional.grid_sample(images[:1].float(), grid, mode="nearest", align_corners=False)
    assert torch.equal(turned, images[:1].flip(2, 3).float())
    config = compose_config(["data.image_size=[8,32]", "augment.crop=8"])
    with pytest.raises(ValueError, match=r"augment.crop=8: must be less than the 8 pixels of the images"):
        make_augmentation(config, DatasetInfo("digits", 1, (8, 32), ("a", "b")), torch.device("cpu"))


def test_a_size_is_a_number_or_two():
    for text, size in {
        "32": (32, 32),
        "32x48": (32, 48),
        "32,48": (32, 48),
        "[32, 48]": (32, 48),
        "32×48": (32, 48),
    }.items():
        assert read_size(text) == size
    for text in ("0", "32x", "x", "32x0", "1.5", "-3", "1x2x3"):
        with pytest.raises(ValueError, match=r"--image-size .*: must be a number of pixels"):
            read_size(text)
    described = describe(["model=lenet5"], channels=1, image_size=(28, 40), num_classes=10)
    assert json.loads(json.dumps(described.to_dict()))["image_size"] == [28, 40]
    assert describe(["model=lenet5", "data.image_size=[28,40]"]).summary == described.summary
    for value in ("[28]", "[28,0]", "[1,2,3]", "0", "1.5", "[a,b]", "true", "2000"):
        with pytest.raises(ValueError, match=r"data.image_size=.*: must be null, a whole number from 1 to"):
            compose_config([f"data.image_size={value}"])
