"""Folds of a cross-validation: which images they hold, and what a run of a fold is trained and tested on."""

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.config.seeds import Fold
from cnnbench.data import Split, load_source
from cnnbench.data.dataset import VALUES
from cnnbench.data.folds import hold_out
from cnnbench.experiment.loading import load_dataset
from cnnbench.sweeps.jobs import hash_config

NAMES = ("cat", "dog")


def load(*overrides, **options):
    return load_dataset(compose_config(list(overrides)), **options)


def hashes(split):
    return split.marks[:, VALUES].tolist()


@pytest.fixture(scope="module")
def digits():
    return load_source("digits", root="", download=False).add_marks()


@pytest.mark.parametrize("count", [2, 5, 10])
def test_each_training_image_is_in_one_fold_and_classes_are_spread_evenly(digits, count):
    folds = [hold_out(digits.info.class_names, digits.train, Fold(number, count), 3) for number in range(1, count + 1)]
    held_out = [mark for test, _ in folds for mark in hashes(test)]
    assert sorted(held_out) == sorted(hashes(digits.train))
    counts = torch.stack([test.labels.bincount() for test, _ in folds])
    assert int((counts.amax(0) - counts.amin(0)).max()) <= 1
    for test, rest in folds:
        assert sorted(hashes(test) + hashes(rest)) == sorted(held_out)
        assert not {*hashes(test)} & {*hashes(rest)}


def test_folds_depend_on_the_seed_of_the_split_and_on_no_other():
    first = load("data.folds=5", "data.fold=2", "seed=1")
    same = load("data.folds=5", "data.fold=2", "seed=7", "seeds.split=1", "model=mlp", "trainer.epochs=3")
    other = load("data.folds=5", "data.fold=2", "seed=7")
    assert hashes(first.test) == hashes(same.test)
    assert hashes(first.train) == hashes(same.train)
    assert hashes(first.test) != hashes(other.test)
    assert first.pool == other.pool


def test_a_run_of_a_fold_never_sees_the_images_of_the_test_split(digits):
    kept = {*hashes(digits.test)}
    for overrides in ([], ["data.val_fraction=0"], ["data.train_limit=200"]):
        dataset = load("data.folds=4", "data.fold=1", *overrides)
        splits = [dataset.train, dataset.test] + ([dataset.val] if dataset.val else [])
        seen = [mark for split in splits for mark in hashes(split)]
        assert len({*seen}) == len(seen) == (200 if "data.train_limit=200" in overrides else len(digits.train))
        assert not kept & {*seen}
    assert "the test images are fold 1 of 4" in dataset.describe()
    assert len(load("data.folds=4", "data.fold=1", test=False).test) == 0


def test_a_cross_validation_does_not_open_the_files_of_the_test_split(tmp_path):
    for split in ("train", "test"):
        for name in NAMES:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng([number, len(name), len(split)]).integers(0, 255, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"no image")
    own = ["data=image_folder", f"data.path={tmp_path}", "data.cache=null", "data.workers=0", "data.val_fraction=0"]
    dataset = load(*own, "data.folds=2", "data.fold=1")
    assert (len(dataset.train), len(dataset.test)) == (4, 4)


def test_two_folds_are_two_jobs_of_one_config():
    first, second = ({"seed": 0, "data": {"name": "digits", "folds": 5, "fold": fold}} for fold in (1, 2))
    assert hash_config(first) != hash_config(second)
    assert hash_config(first, with_seeds=False) == hash_config(second, with_seeds=False)


def test_a_class_with_fewer_images_than_folds_is_refused():
    labels = torch.tensor([0] * 9 + [1] * 3)
    split = Split(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), labels, marks=torch.arange(36).view(12, 3))
    said = r"sweep\.folds=4: each class needs .*fewer of 'dog' \(3\): use sweep\.folds=3, or add images"
    with pytest.raises(ValueError, match=said):
        hold_out(NAMES, split, Fold(1, 4), 0)
    test, rest = hold_out(NAMES, split, Fold(1, 3), 0)
    assert (test.labels.bincount().tolist(), rest.labels.bincount().tolist()) == ([3, 1], [6, 2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.fold=2"], r"data\.fold=2 needs data\.folds"),
        (["data.folds=5"], r"data\.folds=5 needs data\.fold:"),
        (["data.fold=6", "data.folds=5"], r"data\.fold=6: must be a whole number from 1 to data\.folds=5"),
    ],
)
def test_a_fold_that_does_not_exist_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        compose_config(overrides)
