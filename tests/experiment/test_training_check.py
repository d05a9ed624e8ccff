"""Nearly equal images in two splits are warned of before training, once found, or refused."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.data import load_source
from cnnbench.experiment import loading
from cnnbench.experiment.lifetime import CannotGoOn
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.run import run_job
from cnnbench.quality.findings import RefusedData
from cnnbench.runs.folder import create_folder


@pytest.fixture
def photos(tmp_path):
    """Digits in a folder, of which one test image is a brighter copy of a training image."""
    digits = load_source("digits", root="", download=False)
    for split, part in (("train", digits.train), ("test", digits.test)):
        for label in (0, 1):
            (tmp_path / f"photos/{split}/{label}").mkdir(parents=True)
            for number in torch.nonzero(part.labels == label).flatten()[:12].tolist():
                picture = Image.fromarray(part.images[number, 0].numpy() // 2 + 20).resize((28, 28))
                picture.save(tmp_path / f"photos/{split}/{label}/{number:04}.png")
    first = sorted((tmp_path / "photos/train/1").iterdir())[0]
    brighter = np.rint(np.asarray(Image.open(first)) * 1.1).astype(np.uint8)
    Image.fromarray(brighter).save(tmp_path / "photos/test/1/copy.png")
    return tmp_path / "photos"


def load(photos, *overrides):
    loading._found.clear()  # what another process would not know
    use = ("data=image_folder", f"data.path={photos}", f"data.cache={photos.parent / 'cache'}", "data.workers=0")
    return load_dataset(compose_config([*use, *overrides]))


def test_a_near_copy_is_noted_and_found_in_the_cache_the_next_time(photos, caplog):
    caplog.set_level(logging.INFO, logger="cnnbench")
    dataset = load(photos)
    (note,) = [text for text in dataset.notes if "nearly the same as one in train" in text]
    assert note.startswith("1 of 25 test images are nearly the same as one in train, so figures on test are too good")
    assert "copy.png' and '" in note
    assert dataset.near_tests == 1
    assert "looking for nearly equal images" in caplog.text
    caplog.clear()
    assert load(photos).notes == dataset.notes
    assert "looking for" not in caplog.text
    for file in (photos.parent / "cache").iterdir():  # a damaged cache is no error
        if file.read_bytes().startswith(b"{"):
            file.write_bytes(b"{")
    assert load(photos).notes == dataset.notes
    assert "looking for" in caplog.text
    (photos / "test/1/copy.png").unlink()
    assert load(photos).near_tests == 0


def test_the_check_can_be_off_and_an_excluded_copy_is_none(photos, tmp_path):
    assert load(photos, "data.check=off").near_tests is None
    (tmp_path / "list.csv").write_text("path\ntest/1/copy.png\n")
    assert load(photos, f"data.exclude={tmp_path / 'list.csv'}", "data.check=fail").near_tests == 0


def test_near_and_equal_images_in_two_splits_are_refused(photos):
    with pytest.raises(RefusedData, match=r"data.check=fail: 1 of 25 test .* `cnnbench check` lists these images, and"):
        load(photos, "data.check=fail")
    source = sorted((photos / "train/0").iterdir())[0]
    (photos / "test/1/copy.png").write_bytes(source.read_bytes())
    with pytest.raises(RefusedData, match=r"1 of 25 test images are also in train.*1 images have more than one label"):
        load(photos, "data.check=fail")


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_refused_data_end_the_command_with_1_before_anything_is_written(cnnbench, photos, sweep):
    use = ("data=image_folder", f"data.path={photos}", "data.cache=null", "data.workers=0", "data.check=fail")
    done = cnnbench("train", *use, *sweep)
    assert done.returncode == 1
    assert "error: data.check=fail: 1 of 25 test images are nearly the same" in done.stderr
    assert not (photos.parent / "outputs").exists()


def test_a_resumed_run_keeps_the_count_without_another_check(photos, tmp_path, monkeypatch):
    data = ("data=image_folder", f"data.path={photos}", "data.cache=null", "data.workers=0", "data.image_size=8")
    short, whole = (compose_config([*data, "model=mlp", f"trainer.epochs={epochs}"]) for epochs in (1, 2))
    run_job(short, run := create_folder(tmp_path / "run"), [])
    monkeypatch.setattr(loading, "_find_near_copies", lambda *_: pytest.fail("checked again"))
    assert run_job(whole, run, [], resume=True)["test_images_near_training"] == 1


def test_a_run_that_is_resumed_with_a_stricter_check_is_refused(photos, tmp_path):
    data = ("data=image_folder", f"data.path={photos}", "data.cache=null", "data.workers=0", "data.image_size=8")
    short, whole = (compose_config([*data, "model=mlp", f"trainer.epochs={epochs}"]) for epochs in (1, 2))
    run_job(short, run := create_folder(tmp_path / "run"), [])
    whole.data.check = "fail"
    with pytest.raises(CannotGoOn, match=r"data\.check=fail: 1 of 25 test"):
        run_job(whole, run, [], resume=True)
    assert "check: warn" in (run / "config.yaml").read_text()


def test_sets_of_ours_are_not_checked():
    assert load_dataset(compose_config([])).near_tests is None
