"""What a folder or a table of one's own images is taken for: splits or classes, images or litter, one label or two."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from cnnbench.data.files.labels import group_alike, hint_at_alike, normalize_label, unify_labels
from cnnbench.data.files.listing import list_folder
from cnnbench.data.files.listing_csv import list_csv
from cnnbench.data.files.split_names import parse_split
from cnnbench.data.files.walking import is_litter, walk_files


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def images(root: Path, *folders: str) -> Path:
    """Two files in each folder; names ending in / hold classes a and b."""
    inner = [f"{folder}{name}" for folder in folders for name in (("a", "b") if folder.endswith("/") else ("",))]
    return touch(root, *(f"{folder}/{number}.png" for folder in inner for number in range(2)))


def counts(root: Path) -> dict[str, int]:
    return {split: len(rows) for split, rows in list_folder(str(root)).splits.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Train", ("train", ())),
        ("TRAINING_SET", ("train", ())),
        ("trainingSet", ("train", ())),
        ("testset", ("test", ())),
        ("Test-Images", ("test", ())),
        ("seg_train", ("train", ("seg",))),
        ("val2017", ("val", ("2017",))),
        (" validation ", ("val", ())),
        ("DEV", ("val", ())),
        ("eval", ("val", ())),
        ("bullet_train", ("train", ("bullet",))),
        ("trains", None),
        ("contest", None),
        ("invalid", None),
        ("valve", None),
        ("train_test", None),
    ],
)
def test_the_split_that_a_name_speaks_of(name, expected):
    assert parse_split(name) == expected


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", None, "Test"),
        ("TRAIN", "Val", "test"),
        ("training", "validation", "testing"),
        ("seg_train", None, "seg_test"),
        ("training_set", "valid", "test-set"),
        ("train2017", "val2017", None),
        ("train", "dev", "TEST"),
        ("Training", "eval", None),
    ],
)
def test_splits_are_known_by_their_usual_names(train, val, test, tmp_path):
    images(tmp_path, *(f"{name}/" for name in (train, val, test) if name))
    found = list_folder(str(tmp_path))
    assert found.class_names == ("a", "b")
    assert {split: found.paths[rows.start].split("/")[0] for split, rows in found.splits.items()} == {
        split: name for split, name in (("train", train), ("val", val), ("test", test)) if name
    }


def test_a_split_folder_in_itself_and_what_lies_beside_splits(tmp_path):
    images(tmp_path, "seg_train/seg_train/", "seg_test/seg_test/", "seg_pred/seg_pred")
    touch(tmp_path, "__MACOSX/seg_train/._a.png")
    found = list_folder(str(tmp_path))
    assert (found.class_names, found.ignored, found.remarks) == (("a", "b"), ["seg_pred"], [])
    assert found.paths[0] == "seg_train/seg_train/a/0.png"
    assert len(found.splits["test"]) == 4


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["car", "plane", "train"], r"no class folders in 'train': train may be a split or a class\. Splits must be"),
        (["car/", "plane/", "Train/"], "has car and plane beside 'Train': Train may be a split or a class"),
        (["train", "test"], "no class folders in 'train': train and test may be splits or classes"),
        (["valid", "invalid"], "has a folder 'valid' but none called 'train': valid may be a split or a class"),
        (["a", "b", "Test"], "has a folder 'Test' but none called 'train'"),
        (["seg_val/", "seg_test/"], "none called 'train': seg_val and seg_test may be splits or classes"),
        (["train/", "Train/"], "has Train and train: keep one of them"),
        (["train/", "val/", "dev/"], "has dev and val: keep one of them"),
        (["train/", "test/", "seg_train/", "seg_test/"], "may be splits or classes"),
        (["train/", "test/", "my_val/"], "has my_val beside train and test: my_val may be a split or a class"),
        (["cat_train", "cat_test", "dog_train", "dog_test"], "cat_test, cat_train, dog_test and dog_train may be"),
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused_with_both(folders, message, tmp_path):
    images(tmp_path, *folders)
    with pytest.raises(ValueError, match=message) as caught:
        list_folder(str(tmp_path))
    if "keep one" not in message:
        assert "train/<class>/…" in str(caught.value)
        assert "another name, or all class folders together in one called train" in str(caught.value)


def test_class_folders_that_hold_the_same_folders_are_doubted(tmp_path):
    images(tmp_path, *(f"{part}/{name}" for part in ("entrenamiento", "prueba") for name in ("cat", "dog")))
    (remark,) = list_folder(str(tmp_path)).remarks
    assert "the same folders (cat, dog) in each of its folders: entrenamiento, prueba are taken for classes" in remark
    (tmp_path / "entrenamiento").rename(tmp_path / "01_train")
    (tmp_path / "prueba").rename(tmp_path / "02_test")
    with pytest.raises(ValueError, match=r"has the same folders \(cat, dog\).*: 01_train and 02_test may be splits or"):
        list_folder(str(tmp_path))
    (tmp_path / "02_test/dog").rename(tmp_path / "02_test/dogs")
    assert list_folder(str(tmp_path)).remarks == []
    images(tmp_path, "02_test/dog", "02_test")
    assert list_folder(str(tmp_path)).class_names == ("01_train", "02_test")


def test_the_ways_out_of_a_class_called_train_work(tmp_path):
    images(tmp_path / "renamed", "car", "plane", "trains")
    images(tmp_path / "moved/train", "car", "plane", "train")
    assert list_folder(str(tmp_path / "renamed")).class_names == ("car", "plane", "trains")
    assert list_folder(str(tmp_path / "moved")).class_names == ("car", "plane", "train")


def test_classes_may_have_a_splits_word_in_their_names(tmp_path):
    images(tmp_path, "bullet_train", "steam_train", "test_tube", "valve")
    assert list_folder(str(tmp_path)).class_names == ("bullet_train", "steam_train", "test_tube", "valve")


def test_images_of_a_test_folder_without_classes_are_said_to_be_unused(tmp_path):
    images(tmp_path, "train/", "test")
    found = list_folder(str(tmp_path))
    assert [*found.splits] == ["train"]
    assert found.remarks == ["'test' holds no class folders: it is not used for test"]


LITTER = ["Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "DESKTOP.INI", ".DS_Store", "._1.png", "Icon\r"]
LITTER += ["1.png:Zone.Identifier", "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/1.png", "@__thumb/1.png"]
LITTER += [".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/a/._1.png", "System Volume Information/x", "lost+found/x"]


def test_the_litter_of_systems_is_neither_image_nor_class(tmp_path):
    images(tmp_path, "a", "b")
    touch(tmp_path, *LITTER, *(f"a/{name}" for name in LITTER))
    found = list_folder(str(tmp_path))
    assert (found.class_names, found.paths, found.ignored) == (
        ("a", "b"),
        ["a/0.png", "b/0.png", "a/1.png", "b/1.png"],
        [],
    )
    assert [*walk_files(str(tmp_path), pytest.fail)] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert not any(map(is_litter, ["thumbs.png", "dB", "MACOSX", "desktop", "icon.png", "outputs"]))


OURS = {
    "a run": ["config.yaml", "overrides.yaml", "curves.png", "evaluations/x_test/mistakes.png"],
    "a run that has begun": ["train.log", ".lock"],
    "a sweep": ["jobs.json", "sweep.yaml", "0/config.yaml", "0/overrides.yaml", "0/curves.png"],
    "a study": ["study.yaml", "study.journal", "trial_0/augmented.png"],
    "a report": ["report.md", "report.html", "results.csv", "groups.csv"],
    "a preview": ["augmented.png"],
    "a measurement": ["metrics.json", "predictions.npz", "mistakes.png"],
}


@pytest.mark.parametrize("what", OURS)
@pytest.mark.parametrize("where", ["outputs/x/run", "run", "a/run", "mine/of/today"])
def test_what_this_program_wrote_is_no_class_and_no_image(what, where, tmp_path):
    images(tmp_path, "a", "b")
    touch(tmp_path / where, *OURS[what])
    found = list_folder(str(tmp_path))
    assert (found.class_names, len(found.paths)) == (("a", "b"), 4)
    assert len([*walk_files(str(tmp_path), pytest.fail)]) == 4


def test_outputs_with_a_database_and_a_picture_of_ones_own_is_no_class_but_a_class_may_have_the_name(tmp_path):
    images(tmp_path, "a", "b")
    touch(
        tmp_path,
        "outputs/mlflow.db",
        "outputs/mlflow.artifacts/1/artifacts/curves.png",
        "outputs/my.png",
        "cache/0123.pixels",
    )
    touch(tmp_path / "outputs/x/run", *OURS["a run"])
    assert list_folder(str(tmp_path)).class_names == ("a", "b")
    shutil.rmtree(tmp_path / "outputs")
    images(tmp_path, "outputs")
    assert list_folder(str(tmp_path)).class_names == ("a", "b", "outputs")


CAFE = unicodedata.normalize("NFD", "café")


def test_labels_have_one_form():
    cafe = normalize_label(CAFE)
    assert CAFE != cafe == "café"
    assert [normalize_label(text) for text in (" cat ", "cat\u200b", "\ufeffcat\xa0", "c at")] == ["cat"] * 3 + ["c at"]
    numbers = {"0.000000000000000000e+00": "0", "1.0": "1", " 1": "1", "-2.": "-2", "01": "01", "1e3": "1e3"}
    assert unify_labels(numbers) == numbers
    assert unify_labels(["1.0", "1.5"]) == {"1.0": "1.0", "1.5": "1.5"}
    assert unify_labels(["1.0", "b"]) == {"1.0": "1.0", "b": "b"}
    assert unify_labels(["1.0e300", "9007199254740993.0", "1"])["1"] == "1"
    pairs = [["Cat", "cat"], ["01", "1"], ["1.0", "1e0"], ["hot dog", "hot_dog"], [CAFE, cafe], ["a", "\uff41"]]
    for pair in pairs:
        assert group_alike([*pair, "other", "2"]) == [sorted(pair)]
    assert group_alike(["1", "11", "cat", "cats", "-1", "1.5", "nan", "inf"]) == []
    assert "'Cat' and 'cat' differ in spelling alone" in hint_at_alike({"cat"}, {"Cat", "dog"})
    assert hint_at_alike({"emu"}, {"Cat", "cat"}) == ""


def test_folders_of_one_name_are_one_class_between_splits_and_refused_within_one(tmp_path):
    images(tmp_path, f"train/{CAFE}", "train/cat ", "test/café", "test/cat")
    found = list_folder(str(tmp_path))
    assert found.class_names == ("café", "cat")
    assert found.labels == [0, 1] * 4
    images(tmp_path, "train/cat")
    with pytest.raises(ValueError, match=r"both called 'cat': 'train/cat' and 'train/cat '; keep one"):
        list_folder(str(tmp_path))


def test_classes_that_differ_in_spelling_alone_are_named(tmp_path):
    images(tmp_path, "train/Cat", "train/dog", "test/cat", "test/dog")
    with pytest.raises(
        ValueError, match=r"class 'cat' is in test, but not in train.*'Cat' and 'cat' differ in spelling"
    ):
        list_folder(str(tmp_path))
    images(tmp_path, "train/cat", "train/1", "train/01")
    assert list_folder(str(tmp_path)).remarks == [
        "'01' and '1'; 'Cat' and 'cat' are separate classes, although they differ only in spelling: if they are "
        "one, write them the same way"
    ]


def table(root: Path, text: str) -> Path:
    (root / "list.csv").write_bytes(text.encode())
    return root / "list.csv"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_from_windows_is_read(end, delimiter, tmp_path):
    touch(tmp_path, "sub/Å 1.JPG", "sub/2.png", "sub/3.png")
    rows = [
        " Path ,LABEL,Split",
        "sub\\Å 1.jpg,cat ,TRAIN",
        f"{CAFE and 'Sub/2.png'},1,training",
        "sub/3.png, cat,Test",
    ]
    text = "\ufeff" + "".join(row.replace(",", delimiter) + end for row in rows) + end
    found = list_csv(str(table(tmp_path, text)))
    assert found.paths == ["sub/Å 1.JPG", "sub/2.png", "sub/3.png"]
    assert found.class_names == ("1", "cat")
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 2, "test": 1}


def test_numbers_for_labels_are_one_class_however_they_are_written(tmp_path):
    touch(tmp_path, "1.png", "2.png", "3.png", "4.png")
    rows = "1.png,1\n2.png,1.0\n3.png, 0\n4.png,0.0e+00\n"
    found = list_csv(str(table(tmp_path, f"path,label\n{rows}")))
    assert (found.class_names, found.labels, found.remarks) == (("0", "1"), [1, 1, 0, 0], [])
    found = list_csv(str(table(tmp_path, "path,label\n1.png,Cat\n1.png,cat\n1.png,dog\n")))
    assert len(found.class_names) == 3
    assert found.remarks[0].startswith("'Cat' and 'cat' are separate classes")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.png,,train", "line 3: label is empty"),
        ("1.png,\u200b,train", "line 3: label is empty"),
        (f"1.png,{'x' * 1001},train", "line 3: label has 1,001 characters, the limit is 1,000"),
        ("1.png,a,", "line 3: split='', must be one of train, val, test$"),
        (f"1.png,{'x' * 200_000},train", r"line 3: a value is too long: is a quote missing\?"),
    ],
)
def test_a_row_of_a_table_that_is_wrong_is_named(row, message, tmp_path):
    touch(tmp_path, "1.png")
    with pytest.raises(ValueError, match=message):
        list_csv(str(table(tmp_path, f"path,label,split\n1.png,b,train\n{row}\n")))


def test_files_that_are_there_from_the_current_folder_say_where_paths_start(tmp_path, monkeypatch):
    touch(tmp_path, "data/1.png", "data/2.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"none of its 2 files exists.*data/data/1.png'.*exists in the current folder"):
        list_csv(str(table(tmp_path / "data", "path,label\ndata/1.png,a\ndata/2.png,b\n")))
