"""Which images a list leaves out of a dataset, and what is said about a list that does not fit."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.data import load_source
from cnnbench.data.exclusion import collect_marks, match_marks, read_image_list
from cnnbench.experiment.loading import load_dataset
from cnnbench.storage.csv_tables import write_csv


def write_list(file, *rows, columns="split,index"):
    file.write_text("\n".join([columns, *rows]) + "\n")
    return file


def load(file, *overrides, **options):
    return load_dataset(compose_config([f"data.exclude={file}", *overrides]), **options)


@pytest.fixture
def photos(tmp_path):
    """A folder with a test split and an image that is in both splits."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(6):
            split = "test" if number > 3 else "train"
            (tmp_path / f"photos/{split}/{name}").mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([label, number]).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / f"photos/{split}/{name}/{number}.png")
    shutil.copy(tmp_path / "photos/train/cat/0.png", tmp_path / "photos/test/cat/copy.png")
    return tmp_path / "photos"


def use(photos):
    return ("data=image_folder", f"data.path={photos}", "data.cache=null", "data.workers=0", "data.val_fraction=0")


def test_listed_images_are_left_out_before_validation_is_cut(tmp_path):
    file = write_list(tmp_path / "list.csv", "train,3", "train,0", "train,3", "test,359")
    dataset = load(file)
    whole = load_dataset(compose_config([]))
    assert dataset.exclusion.counts == {"train": 2, "test": 1}
    assert dataset.describe().endswith("data.exclude leaves out 2 train, 1 test")
    assert torch.equal(dataset.test.images, whole.test.images[:-1])
    kept = torch.cat((dataset.train.marks, dataset.val.marks))[:, 2]
    assert sorted(kept.tolist()) == [place for place in range(1437) if place not in (0, 3)]
    assert len(dataset.val) == len(whole.val)  # a tenth of what is left


def test_an_empty_list_changes_nothing(tmp_path):
    assert torch.equal(
        load(write_list(tmp_path / "list.csv")).train.images, load_dataset(compose_config([])).train.images
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("val,0,", r"list.csv': 1 row does not fit data=digits: line 2: split='val': must be train or test"),
        ("train,1437,", r"index='1437': must be a whole number from 0 to 1436 in train"),
        ("train,-1,", r"index='-1': must be a whole number"),
        ("train,,", r"index='': must be a whole number"),
        ("train,5,0123456789abcdef", r"list is of other data: image 5 of train has the hash [0-9a-f]{16}, not '0123"),
    ],
)  # fmt: skip
def test_a_row_that_names_no_image_is_refused(tmp_path, row, said):
    with pytest.raises(ValueError, match=said):
        load(write_list(tmp_path / "list.csv", row, columns="split,index,hash"))


def test_a_file_that_is_no_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.exclude='.*none.csv' cannot be read \(No such file.*`cnnbench check`"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"has the columns 'name', 'label': must be a CSV file with the column path"):
        load(write_list(tmp_path / "list.csv", "a,b", columns="name,label"))


def test_a_class_without_images_and_an_empty_split_are_refused(tmp_path):
    digits = load_source("digits", root="", download=False)
    threes = [f"train,{index}" for index in torch.nonzero(digits.train.labels == 3).flatten().tolist()]
    with pytest.raises(ValueError, match="leaves no training image of class '3'"):
        load(write_list(tmp_path / "list.csv", *threes))
    with pytest.raises(ValueError, match="leaves no test image"):
        load(write_list(tmp_path / "list.csv", *(f"test,{index}" for index in range(360))))


def test_images_with_files_are_found_by_their_path(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Below the data folder, from the current folder, and with a split that another seed would have chosen.
    rows = ("train/cat/1.png,train", "photos/train/dog/2.png,", "test/cat/copy.png,train", "train/dog/3.png,train")
    file = write_list(tmp_path / "list.csv", *rows, columns="path,split")
    dataset = load(file, *use("photos"))
    assert dataset.exclusion.counts == {"train": 3, "test": 1}
    names = {dataset.paths.names[place] for split in (dataset.train, dataset.test) for place in split.marks[:, 2]}
    assert len(names) == 9
    assert not names & {"train/cat/1.png", "train/dog/2.png", "test/cat/copy.png"}
    assert not dataset.notes  # the leak is gone


def test_a_file_that_cannot_be_read_or_may_not_is_no_error(tmp_path, photos):
    (photos / "train/cat/1.png").write_bytes(b"")
    file = write_list(tmp_path / "list.csv", "train/cat/1.png", "test/dog/4.png", columns="path")
    dataset = load(file, *use(photos), "data.on_bad_image=skip", test=False)
    assert dataset.exclusion.counts == {"train": 0, "test": 0}


def test_an_unknown_path_is_refused_with_the_nearest_one(tmp_path, photos):
    with pytest.raises(ValueError, match=r"line 2: path='train/cat/7.png' is not one of the images. Did you mean 'tr"):
        load(write_list(tmp_path / "list.csv", "train/cat/7.png", columns="path"), *use(photos))
    with pytest.raises(ValueError, match="line 2: path is empty: images with files are named by their paths"):
        load(write_list(tmp_path / "list.csv", "train,1"), *use(photos))


def test_a_run_that_is_measured_on_other_data_ignores_what_is_not_there(tmp_path, photos):
    file = write_list(tmp_path / "list.csv", "train/cat/7.png", "test/cat/copy.png", columns="path")
    dataset = load(file, *use(photos), classes=["cat", "dog"])
    assert dataset.exclusion.counts == {"train": 0, "test": 1}


def test_a_list_with_names_that_look_like_formulas_is_read_back(tmp_path, photos):
    shutil.move(photos / "train/cat", photos / "train/=cat")
    shutil.move(photos / "test/cat", photos / "test/=cat")
    source = load_source("image_folder", root="", download=False, options=compose_config(use(photos)).data.options)
    marks, names = source.train.marks, source.paths.names
    write_csv(
        tmp_path / "list.csv",
        [{"path": names[row], "hash": int(marks[row, 0]).to_bytes(8, "little", signed=True).hex()} for row in (0, 4)],
    )
    images = read_image_list(str(tmp_path / "list.csv"), "--exclude")
    listed = match_marks(source.train, collect_marks(source, images))
    assert np.flatnonzero(listed).tolist() == [0, 4]
