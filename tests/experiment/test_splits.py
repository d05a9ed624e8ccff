"""Which images a run is trained and tested on, what its folder says of them, and what happens when they change."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cnnbench.cli.compose import compose_config
from cnnbench.data import load_source, prepare
from cnnbench.data.preparation import cut_test, split_by_class
from cnnbench.experiment.data_record import read_data
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.run import run_job
from cnnbench.reproducibility import make_generator
from cnnbench.runs.folder import RunFolder
from cnnbench.storage.csv_tables import read_csv

NAMES = ("cat", "dog", "owl")
SHORT = ("model=mlp", "trainer.epochs=1", "data.cache=null", "data.workers=0")


def draw_set(root, count=10, names=NAMES, start=0):
    """Noise, each file its own."""
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            noise = np.random.default_rng([label, number]).integers(0, 100, (8, 8), dtype=np.uint8)
            Image.fromarray(noise + 50 * label).save(root / name / f"{number:03}.png")
    return root


def invert(root):
    for file in root.rglob("*.png"):
        ImageOps.invert(Image.open(file)).save(file)


def trained(path, data, *overrides, **options):
    path.mkdir(exist_ok=True)
    config = compose_config(["data=image_folder", f"data.path={data}", *SHORT, *overrides])
    return run_job(config, path, [], **options)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A flat folder of 30 images and a run on it, to be copied before anything is changed."""
    root = tmp_path_factory.mktemp("flat")
    draw_set(root / "photos")
    trained(root / "run", root / "photos")
    return root


@pytest.fixture
def copied(flat, tmp_path):
    """A run, and its data behind the path that its config names; those are put back afterwards."""
    shutil.copytree(flat / "run", tmp_path / "run")
    shutil.copytree(flat / "photos", tmp_path / "kept")
    yield tmp_path / "run", flat / "photos"
    shutil.rmtree(flat / "photos")
    shutil.copytree(tmp_path / "kept", flat / "photos")


# Cuts


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_test_cut_has_each_class_on_both_sides_and_one_more_image_moves_at_most_one(labels, fraction, test_seed):
    contents = [f"{place}".encode() for place in range(len(labels))]
    tested, rest = cut_test(torch.tensor(labels), contents, fraction, test_seed)
    assert sorted([*tested.tolist(), *rest.tolist()]) == list(range(len(labels)))
    for label, count in Counter(labels).items():
        inside = sum(labels[index] == label for index in tested.tolist())
        assert inside == (0 if count == 1 else min(max(1, round(fraction * count)), count - 1))
    turned, _ = cut_test(torch.tensor(labels[::-1]), contents[::-1], fraction, test_seed)
    assert {len(labels) - 1 - index for index in turned.tolist()} == {*tested.tolist()}
    more, _ = cut_test(torch.tensor([*labels, labels[0]]), [*contents, b"new"], fraction, test_seed)
    assert len({*tested.tolist()} - {*more.tolist()}) <= 1


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0, 1), st.integers(0, 9))
def test_a_cut_may_keep_or_leave_one_of_each_class(labels, fraction, seed):
    labels, count = torch.tensor(labels), round(fraction * len(labels))
    classes = labels.unique()
    chosen, rest = split_by_class(labels, count, make_generator(seed, "x"), leave=True)
    assert {*labels[rest].tolist()} == {*classes.tolist()}
    assert len(chosen) == min(count, len(labels) - len(classes))
    if count >= len(classes):
        chosen, _ = split_by_class(labels, count, make_generator(seed, "x"), keep=True)
        assert {*labels[chosen].tolist()} == {*classes.tolist()}
        assert len(chosen) == count


def test_validation_leaves_a_class_its_only_image_and_names_it(tmp_path):
    draw_set(tmp_path, 20, ("cat", "dog"))
    draw_set(tmp_path, 2, ("owl",))
    dataset = load_dataset(
        compose_config(["data=image_folder", f"data.path={tmp_path}", *SHORT, "data.val_fraction=0.4"])
    )
    assert dataset.train.labels.bincount(minlength=3).tolist()[2] == 1
    assert "class 'owl' has a single training image, and none for validation" in dataset.notes
    shutil.rmtree(tmp_path)
    draw_set(tmp_path, 2)
    with pytest.raises(ValueError, match=r"data.val_fraction=0.4: each class has a single training image"):
        load_dataset(compose_config(["data=image_folder", f"data.path={tmp_path}", *SHORT, "data.val_fraction=0.4"]))


def test_a_limit_keeps_each_class_or_names_those_it_leaves_out():
    digits = load_source("digits", root="", download=False)
    assert prepare(digits, seed=0, train_limit=10).train.labels.bincount().tolist() == [1] * 10
    (note,) = prepare(digits, seed=0, train_limit=8).notes
    assert note.startswith("data.train_limit=8: classes '")


@pytest.mark.parametrize("name", ["digits", "waves"])
def test_the_test_seed_chooses_the_test_split_of_embedded_data_and_the_seed_does_not(name):
    def tested(*overrides):
        return load_dataset(compose_config([f"data={name}", *overrides])).test.images

    assert torch.equal(tested("seed=0"), tested("seed=1"))
    assert not torch.equal(tested("seed=0"), tested("data.test_seed=1"))


def test_all_seeds_share_a_test_set(flat, tmp_path):
    first = json.loads((flat / "run/summary.json").read_text())
    other = trained(tmp_path / "other", flat / "photos", "seed=1")
    for key in ("test_set_sha256", "train_set_sha256", "test_images"):
        assert first[key] == other[key]
    elsewhere = trained(tmp_path / "elsewhere", flat / "photos", "data.test_seed=1")
    assert elsewhere["test_set_sha256"] != first["test_set_sha256"]


OPENED = """
import os, sys
def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith((".png", ".csv", "ubyte")):
        with_log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(with_log, os.fsencode(str(arguments[0])) + b"\\n")
        os.close(with_log)
sys.addaudithook(note)
"""


def test_a_search_opens_no_test_file(tmp_path):
    draw_set(tmp_path / "set", 20)
    config = ("data=image_folder", f"data.path={tmp_path}/set", "model=mlp", "trainer.epochs=1")
    dataset = load_dataset(compose_config([*config, "data.cache=null"]))
    tested = {os.path.realpath(dataset.paths[place]) for place in dataset.test.marks[:, 2].tolist()}
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(OPENED)
    known = {"PYTHONPATH": str(tmp_path / "hook"), "OPENED": str(tmp_path / "opened"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cnnbench", "tune", *config, "data.cache=home", "tune.trials=1", "tune.workers=1"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opened = {os.path.realpath(tmp_path / line) for line in (tmp_path / "opened").read_text().splitlines()}
    assert len(tested) == 12
    assert not tested & opened
    assert {os.path.realpath(file) for file in (tmp_path / "set").rglob("*.png")} - tested <= opened


def test_a_run_that_does_not_test_decodes_no_test_folder(tmp_path):
    draw_set(tmp_path / "set/train")
    draw_set(tmp_path / "set/test", 2)
    for file in (tmp_path / "set/test").rglob("*.png"):
        file.write_bytes(b"nothing that could be decoded")
    assert trained(tmp_path / "run", tmp_path / "set", test=False)["train_images"] == 27
    assert [*read_data(tmp_path / "run")] == ["train", "val"]


def write_idx(root, test=0):
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, seed, count in (("train", 0, 40), ("t10k", 1 + test, 20)):
        images = np.random.default_rng(seed).integers(0, 255, (count, 28, 28), dtype=np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + count.to_bytes(4, "big") + labels.tobytes()
        )


def test_without_its_test_images_mnist_trains_and_none_of_their_files_is_opened(tmp_path):
    write_idx(tmp_path)
    whole = load_source("mnist", root=str(tmp_path), download=False)
    for file in tmp_path.rglob("t10k*"):
        file.write_bytes(b"nothing that could be read")
    part = load_source("mnist", root=str(tmp_path), download=False, settings={"with_test": False})
    assert torch.equal(part.train.images, whole.train.images)
    assert len(part.test) == 0


# Data that changed under a run


def test_a_run_goes_on_with_its_own_data_alone_wherever_they_lie(copied, tmp_path):
    run, photos = copied
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    shutil.copytree(photos, tmp_path / "moved")
    shutil.copytree(run, tmp_path / "again")
    trained(tmp_path / "again", tmp_path / "moved", "trainer.epochs=2", resume=True)
    draw_set(photos, 1, ("cat",), start=50)
    with pytest.raises(ValueError, match=r"not the data of this run: compared with its 30 images: 1 added"):
        trained(run, photos, "trainer.epochs=2", resume=True)
    (photos / "cat/050.png").unlink()
    (photos / "dog/003.png").unlink()
    with pytest.raises(ValueError, match=r"compared with its 30 images: 1 missing"):
        trained(run, photos, "trainer.epochs=2", resume=True)
    invert(photos)
    with pytest.raises(ValueError, match=r"compared with its 30 images: 29 replaced, 1 missing"):
        trained(run, photos, "trainer.epochs=2", resume=True)
    assert (run / "data.json").read_bytes() == before["data.json"]


def test_exchanged_labels_are_other_data(copied):
    run, photos = copied
    (photos / "cat").rename(photos / "x")
    (photos / "dog").rename(photos / "cat")
    (photos / "x").rename(photos / "dog")
    with pytest.raises(ValueError, match="not the data of this run"):
        trained(run, photos, "trainer.epochs=2", resume=True)


def test_a_run_of_two_classes_has_curves_and_thresholds(tmp_path):
    draw_set(tmp_path / "photos", 20, ("cat", "dog"))
    trained(tmp_path / "run", tmp_path / "photos")
    assert (tmp_path / "run/ranking.png").read_bytes().startswith(b"\x89PNG")
    rows = read_csv(tmp_path / "run/thresholds.csv")
    assert {row["class"] for row in rows} == {"cat", "dog"}
    assert {int(row["true_positives"]) + int(row["false_negatives"]) for row in rows} == {4}
    areas = [row["roc_auc"] for row in read_csv(tmp_path / "run/per_class.csv")]
    assert float(areas[0]) == pytest.approx(float(areas[1]), abs=1e-6)


def test_evaluate_measures_what_was_test_and_says_what_differs(copied):
    run, photos = copied
    folder, own = evaluate_run(run)
    assert (own["images"], own["notes"]) == (6, [])
    assert evaluate_run(run) == (folder, own)  # the same measurement takes the place of itself
    assert own["accuracy"] == RunFolder(run).read_summary()["test/accuracy"]
    # However the split would be cut anew, the same images are measured.
    draw_set(photos, 15, start=100)
    other, grown = evaluate_run(run)
    assert other != folder
    assert grown["notes"][0].startswith("not the data of this run: compared with its 30 images: 45 added")
    assert (grown["images_sha256"], grown["accuracy"]) == (own["images_sha256"], own["accuracy"])
    _, validated = evaluate_run(run, DataChoice(split="val"))
    assert validated["images"] == read_data(run)["val"].images
    invert(photos)
    with pytest.raises(ValueError, match=r"30 replaced.* None of its 6 test images is here; --path DIR"):
        evaluate_run(run)


def test_evaluate_leaves_out_what_a_run_has_seen_wherever_it_lies(copied, tmp_path):
    run, photos = copied
    shutil.copytree(photos, tmp_path / "a/photos")
    first, moved = evaluate_run(run, DataChoice(path=str(tmp_path / "a/photos")))
    assert moved["images"] == 6
    assert "the run was tested on 6 and trained or validated on 24, which are left out; 0 are new" in moved["notes"][0]
    for file in (tmp_path / "a/photos").rglob("*.png"):  # the same pixels in other files
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    draw_set(tmp_path / "b/photos", 2, start=200)
    assert evaluate_run(run, DataChoice(path=str(tmp_path / "a/photos")))[1]["images_sha256"] != moved["images_sha256"]
    second, new = evaluate_run(run, DataChoice(path=str(tmp_path / "b/photos")))
    assert (new["images"], new["notes"]) == (6, [])
    assert [folder.name for folder in (first, second)] == ["image_folder_photos_test", "image_folder_photos_test_3"]
    assert json.loads((first / "metrics.json").read_text())["images_sha256"] == moved["images_sha256"]
    seen = tmp_path / "seen"
    for name in NAMES:
        (seen / name).mkdir(parents=True)
    hashes = {*read_data(run)["train"].hashes.tolist()}
    dataset = load_dataset(compose_config(["data=image_folder", f"data.path={photos}", *SHORT]))
    for place, value in zip(dataset.train.marks[:, 2].tolist(), dataset.train.marks[:, 1].tolist(), strict=True):
        assert value in hashes
        shutil.copy(dataset.paths[place], seen / Path(dataset.paths[place]).parent.name)
    with pytest.raises(ValueError, match="which are left out; 0 are new"):
        evaluate_run(run, DataChoice(path=str(seen)))


def test_evaluate_takes_a_folder_that_lacks_classes_or_training_images(copied, tmp_path):
    run, _ = copied
    draw_set(tmp_path / "some/test", 4, ("dog", "cat"), start=300)
    _, some = evaluate_run(run, DataChoice(path=str(tmp_path / "some")))
    assert some["images"] == 8
    assert some["notes"] == ["no images of 'owl': the figures cover the other classes"]
    (tmp_path / "one").mkdir()
    (tmp_path / "some/test/dog").rename(tmp_path / "one/dog")
    _, one = evaluate_run(run, DataChoice(path=str(tmp_path / "one")))
    rows = (run / "evaluations/image_folder_one_test/confusion_matrix.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows] == ["true", *NAMES]
    assert sum(map(int, rows[2].split(",")[1:])) == one["images"] == 4
    (tmp_path / "one/dog").rename(tmp_path / "one/Dog")
    with pytest.raises(ValueError, match=r"it has Dog, which the run lacks.*'Dog' and 'dog' differ in spelling alone"):
        evaluate_run(run, DataChoice(path=str(tmp_path / "one")))


def test_a_result_goes_where_out_says_and_replaces_nothing(copied, tmp_path):
    run, _ = copied
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    (run / "evaluations").write_text("in the way, as a folder that cannot be written is")
    with pytest.raises(ValueError, match=r"evaluations cannot be written .*--out DIR"):
        evaluate_run(run)
    folder, metrics = evaluate_run(run, out=tmp_path / "out/here")
    assert folder == tmp_path / "out/here"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    with pytest.raises(ValueError, match="holds other files: must be a new or an empty folder"):
        evaluate_run(run, DataChoice(split="train"), out=folder)


def test_another_mnist_is_not_the_data_of_a_run(tmp_path):
    write_idx(tmp_path / "one")
    write_idx(tmp_path / "other", test=1)
    config = compose_config(["data=mnist", f"data.root={tmp_path}/one", *SHORT[:2]])
    (tmp_path / "run").mkdir()
    run_job(config, tmp_path / "run", [])
    assert evaluate_run(tmp_path / "run")[1]["notes"] == []
    assert "hashes" not in (tmp_path / "run/data.json").read_text()
    with pytest.raises(
        ValueError, match=r"not the data of this run: the contents or labels differ .*--data mnist measures the run"
    ):
        evaluate_run(tmp_path / "run", DataChoice(root=str(tmp_path / "other")))
    _, metrics = evaluate_run(tmp_path / "run", DataChoice(data="mnist", root=str(tmp_path / "other")))
    assert metrics["images"] == 20
    assert metrics["notes"][0].startswith("not the data of this run")


@pytest.mark.parametrize(
    "content",
    ['{"splits": 3}', '{"splits": {"train": {}}}', "[]", '{"splits": {"test": {"images": 1, "hashes": "0"}}}'],
)
def test_a_damaged_record_of_the_data_is_named(content, tmp_path):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data.json is damaged"):
        read_data(tmp_path)


def test_streamed_images_have_the_same_hashes(flat):
    splits = [
        load_dataset(compose_config(["data=image_folder", f"data.path={flat}/photos", *SHORT, *more]))
        for more in ((), ("data.memory_limit=1",))
    ]
    for name in ("train", "val", "test"):
        assert torch.equal(*(getattr(dataset, name).marks for dataset in splits))


# Leaks


def test_equal_images_in_two_splits_and_under_two_labels_are_told(tmp_path, caplog):
    draw_set(tmp_path / "d/train", 6)
    draw_set(tmp_path / "d/test", 2, start=50)
    shutil.copy(tmp_path / "d/train/cat/000.png", tmp_path / "d/test/cat/copy.png")
    Image.open(tmp_path / "d/train/dog/001.png").save(tmp_path / "d/test/dog/same pixels.bmp")
    shutil.copy(tmp_path / "d/train/cat/003.png", tmp_path / "d/train/owl/also.png")
    with caplog.at_level(logging.WARNING, "cnnbench"):
        trained(tmp_path / "run", tmp_path / "d", "data.val_fraction=0")
    leaked, twice = (record.getMessage() for record in caplog.records)
    assert leaked.startswith("2 of 8 test images are also in train, so figures on test are too good: ")
    assert "test/cat/copy.png' is the same as " in leaked
    assert "train/cat/000.png'" in leaked
    assert twice.startswith("1 images have more than one label each: ")
    assert "train/cat/003.png' is 'cat'" in twice
    assert leaked in (tmp_path / "run/train.log").read_text()


def test_a_column_that_numbers_the_rows_is_named(tmp_path):
    rows = [f"{row + 1},{row * 7 % 5},{row % 3},{'ab'[row % 2]}" for row in range(20)]
    for header, name in ((True, "1 ('index')"), (False, "1")):
        path = tmp_path / f"{header}.csv"
        path.write_text("\n".join((["index,x,y,label"] if header else []) + rows))
        options = {"path": str(path), "test_path": None, "header": header, "label": "last"}
        source = load_source("csv_signals", root="", download=False, options=options, settings={"test_fraction": 0.2})
        assert [f"column {name} only numbers the rows" in note for note in source.notes] == [True]
    path = tmp_path / "mixed.csv"
    path.write_text("\n".join(sorted(rows, key=lambda row: row[::-1])[::-1]))
    source = load_source(
        "csv_signals", root="", download=False, options=options | {"path": str(path)}, settings={"test_fraction": 0.2}
    )
    assert "column 1 only numbers the rows" in source.notes[0]
    assert "index=False" in source.notes[0]


def test_signals_of_another_file_are_measured_and_the_runs_own_test_file_stays_closed_in_a_search(tmp_path):
    def written(name, seed, count=12):
        values = np.random.default_rng(seed).integers(0, 9, (count, 8))
        rows = [",".join(map(str, [*row, "ab"[place % 2]])) for place, row in enumerate(values)]
        (tmp_path / name).write_text("\n".join(rows))
        return tmp_path / name

    train, test, new = written("train.csv", 0), written("test.csv", 1), written("new.csv", 2, 7)
    config = compose_config(["data=csv_signals", f"data.path={train}", f"data.test_path={test}", *SHORT[:2]])
    (tmp_path / "run").mkdir()
    run_job(config, tmp_path / "run", [])
    assert evaluate_run(tmp_path / "run")[1]["images"] == 12
    new.write_text(f"{new.read_text()}\n{train.read_text()}")
    _, metrics = evaluate_run(tmp_path / "run", DataChoice(path=str(new)))
    assert metrics["images"] == 7
    assert "and trained or validated on 12, which are left out; 7 are new" in metrics["notes"][0]
    config = compose_config(["data=csv_signals", f"data.path={train}", *SHORT[:2]])
    (tmp_path / "cut").mkdir()
    run_job(config, tmp_path / "cut", [])
    train.write_text("\n".join(row for row in train.read_text().splitlines() if row.endswith("a")))
    _, metrics = evaluate_run(tmp_path / "cut")
    assert metrics["images"] == 1
    assert "cannot be split as it was: data.val_fraction=0.1 of 5 training images is 0" in metrics["notes"][0]
    written("train.csv", 0)
    config = compose_config(["data=csv_signals", f"data.path={train}", f"data.test_path={test}", *SHORT[:2]])
    test.write_text("nothing that could be read")
    assert len(load_dataset(config, test=False).test) == 0
    with pytest.raises(ValueError, match=r"test\.csv"):
        load_dataset(config)


def test_evaluate_measures_what_is_left_of_a_runs_own_data(copied):
    run, photos = copied
    shutil.rmtree(photos / "owl")
    (photos / "dog/bad.png").write_text("no image")
    _, metrics = evaluate_run(run)
    assert metrics["images"] == 4
    difference, absent, bad = metrics["notes"]
    assert "compared with its 30 images: 10 missing" in difference
    assert "Only the 4 of its 6 test images that are still here are measured" in difference
    assert absent == "no images of 'owl': the figures cover the other classes"
    assert bad.startswith("files that cannot be read as images are left out: dog/bad.png: not a PNG")
    for file in sorted((photos / "dog").glob("*.png"))[1:]:  # a single image, so that no test split can be cut
        file.unlink()
    _, metrics = evaluate_run(run)
    assert metrics["images"] in (2, 3)
    assert (
        "not the data of this run: what is left cannot be split as it was: class 'dog' has a single"
        in metrics["notes"][0]
    )
    shutil.rmtree(photos)
    with pytest.raises(ValueError, match=r"of the run does not exist: give its new place with --path"):
        evaluate_run(run)
    photos.mkdir()


def test_other_splits_of_a_moved_folder_are_the_runs_or_say_what_they_hold(copied, tmp_path):
    run, photos = copied
    shutil.copytree(photos, tmp_path / "moved")
    for split in ("train", "val"):
        _, own = evaluate_run(run, DataChoice(split=split))
        _, moved = evaluate_run(run, DataChoice(split=split, path=str(tmp_path / "moved")))
        assert (moved["images_sha256"], moved["notes"]) == (own["images_sha256"], [])
    draw_set(tmp_path / "moved", 2, start=400)
    _, grown = evaluate_run(run, DataChoice(split="train", path=str(tmp_path / "moved")))
    assert grown["notes"][0].startswith(
        f"not the data of this run: of {grown['images']} images, the run was trained on "
    )
    (tmp_path / "split").mkdir()
    for part in ("train", "val"):
        shutil.copytree(photos, tmp_path / "split" / part)
    _, val = evaluate_run(run, DataChoice(split="val", path=str(tmp_path / "split")))
    known = read_data(run)
    assert val["images"] == 30 - known["train"].images
    assert f"and trained on {known['train'].images}, which are left out; 6 are others" in val["notes"][0]


def test_a_run_of_a_search_is_tested_on_nothing_that_it_has_seen(copied, tmp_path):
    _, photos = copied
    trained(tmp_path / "trial", photos, test=False)
    assert evaluate_run(tmp_path / "trial")[1]["notes"] == []
    draw_set(photos, 15, start=100)
    _, metrics = evaluate_run(tmp_path / "trial")
    assert "not the data of this run: compared with its 24 images: " in metrics["notes"][0]
    assert "trained or validated on" in metrics["notes"][0]
    known = read_data(tmp_path / "trial")
    hashes = {*known["train"].hashes.tolist(), *known["val"].hashes.tolist()}
    dataset = load_dataset(compose_config(["data=image_folder", f"data.path={photos}", *SHORT]))
    unseen = [value for value in dataset.test.marks[:, 1].tolist() if value not in hashes]
    assert metrics["images"] == len(unseen)
