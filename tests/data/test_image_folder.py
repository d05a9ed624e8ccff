"""One's own images: layouts, order, refusals, the cache, classes of unequal size, and runs as a user starts them."""

import json
import logging
import os
import re
import resource
import shutil
import socket
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cnnbench.cli.compose import compose_config
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.data import Batches, Split, balance_weights, load_source, prepare
from cnnbench.data.files import pixel_store
from cnnbench.data.files.listing import list_folder
from cnnbench.data.loader import order_epoch
from cnnbench.data.memory import parse_bytes
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.result_files import write_skipped
from cnnbench.experiment.run import run_job
from cnnbench.runs.contents import read_confusion
from cnnbench.runs.folder import RunFolder
from cnnbench.training.tasks import CLASSIFICATION, compute_loss

RANDOM = np.random.default_rng(0)


def draw(path, size=(8, 8), mode="L", value=None, **options):
    """Write an image, random unless of one value; returns its pixels, uint8 (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = RANDOM.integers(0, 256, shape, np.uint8) if value is None else np.full(shape, value, np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def write_folder(root, classes=("cat", "dog"), count=10, splits=("",), **options):
    for split in splits:
        for name in classes:
            for number in range(count):
                draw(root / split / name / f"{number:03}.png", **options)
    return root


def load(folder, *, image_size=None, **options):
    """Read anew what the options say, whatever has been read before."""
    pixel_store.read_part.cache_clear()
    defaults = dict(compose_config(["data=image_folder"]).data.options) | {"cache": None, "workers": 0}
    given = defaults | {"path": str(folder)} | options
    return load_source("image_folder", root="", download=False, options=given, settings={"image_size": image_size})


def paths_of(root):
    return list_folder(str(root)).paths


def test_splits_are_read_with_their_classes_and_the_files_order(tmp_path):
    expected = {}
    for split, names in (("train", "ba"), ("test", "ab")):
        for name in names:
            for file in ("2.png", "10.png"):
                expected[split, name, file] = draw(tmp_path / split / name / file)
    source = load(tmp_path)
    assert source.info.class_names == ("a", "b")
    assert source.info.input_shape == (1, 8, 8)
    assert source.val is None
    for split, images in (("train", source.train), ("test", source.test)):
        assert images.labels.tolist() == [0, 1, 0, 1]
        order = [expected[split, name, file] for file in ("10.png", "2.png") for name in "ab"]
        np.testing.assert_array_equal(images.images.numpy(), order)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_split_has_three_names_and_no_fraction_is_cut(name, tmp_path):
    write_folder(tmp_path, splits=("train", name), count=5)
    source = load(tmp_path)
    assert len(source.val) == 10
    dataset = prepare(source, seed=0, val_fraction=0.5, test_fraction=0.2)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (8, 10, 2)


def test_missing_splits_are_cut_and_keep_every_share_the_test_split_whatever_the_seed(tmp_path):
    write_folder(tmp_path)
    source = load(tmp_path)
    assert source.test is None
    cuts = [{"seed": seed, "test_seed": test_seed} for seed, test_seed in ((0, 0), (0, 0), (1, 0), (0, 1))]
    first, same, other, elsewhere = (prepare(source, val_fraction=0.25, test_fraction=0.2, **cut) for cut in cuts)
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        assert getattr(first, split).labels.bincount().tolist() == [count // 2] * 2
        assert torch.equal(getattr(first, split).images, getattr(same, split).images)
        assert torch.equal(getattr(first, split).images, getattr(other, split).images) == (split == "test")
        assert not torch.equal(getattr(first, split).images, getattr(elsewhere, split).images)
    assert (first.pool, first.pool) == (other.pool, same.pool)
    everything = torch.cat([first.train.images, first.val.images, first.test.images])
    assert len(torch.unique(everything.flatten(1), dim=0)) == 20


def test_splits_that_are_cut_share_one_copy_of_the_pixels(tmp_path):
    source = load(write_folder(tmp_path))
    dataset = prepare(source, seed=0, val_fraction=0.25, test_fraction=0.2)
    for split in (dataset.train, dataset.val, dataset.test):
        assert split.stored.data_ptr() == source.train.stored.data_ptr()


@pytest.mark.parametrize("fraction", [0.9, 0.1])
def test_a_cut_that_leaves_a_class_out_is_refused(fraction, tmp_path):
    write_folder(tmp_path, classes=("many",), count=30)
    write_folder(tmp_path, classes=("few",), count=1)
    with pytest.raises(ValueError, match="class 'few' has a single image, so none is left to test on"):
        prepare(load(tmp_path), seed=0, test_fraction=fraction)
    write_folder(tmp_path, classes=("few",), count=2)
    dataset = prepare(load(tmp_path), seed=0, test_fraction=fraction)
    assert [split.labels.bincount().tolist()[0] for split in (dataset.train, dataset.test)] == [1, 1]


def test_a_csv_file_names_paths_labels_and_splits_in_its_order(tmp_path):
    outside = tmp_path / "else where"
    images = [draw(outside / f"{number}.png") for number in range(6)]
    (tmp_path / "sets").mkdir()
    rows = [
        ("../else where/3.png", "b", "train"),
        (str(outside / "0.png"), "a", "train"),
        ("../else where/5.png", "b", "test"),
        ("../else where/1.png", "a", "valid"),
    ]
    path = tmp_path / "sets/list.csv"
    path.write_text("label,path,split\n" + "".join(f"{label},{file},{split}\n" for file, label, split in rows))
    source = load(path)
    np.testing.assert_array_equal(source.train.images.numpy(), [images[3], images[0]])
    assert source.train.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(source.test.images.numpy(), [images[5]])
    np.testing.assert_array_equal(source.val.images.numpy(), [images[1]])
    path.write_text(f"{path.read_text()}b,gone.png,train\n")
    with pytest.raises(
        ValueError, match=r"1 of 5 files .*\(1 not there: paths start from '.*/sets', the CSV file's own"
    ):
        load(path)


def test_files_that_a_csv_file_lists_twice_are_noted(tmp_path):
    write_folder(tmp_path, count=3)
    path = tmp_path / "list.csv"
    rows = [f"{name}/{number:03}.png,{name}" for name in ("cat", "dog") for number in range(3)]
    path.write_text("\n".join(["path,label", *rows]))
    assert load(path).notes == ()
    path.write_text("\n".join(["path,label", *rows, "./cat/001.png,cat"]))
    source = load(path)
    assert len(source.train) == 7
    (note,) = source.notes
    assert note.endswith(": 1 file is listed more than once, and each row counts as an image: 'cat/001.png'")
    path.write_text("\n".join(["path,label", *rows, *rows[:2]]))
    assert "2 files are listed more than once" in load(path).notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "has no column 'path': the first row must be path,label"),
        ("", "has no column 'path'"),
        ("path,label\n,b\na.png,\n", "2 rows are wrong: line 2: path is empty; line 3: label is empty"),
        ("path,label,split\na.png,b,new\n", "line 2: split='new', must be one of train, val, test$"),
        ("path,label\na.png,b,c\n", "1 row is wrong: line 2: has more values than the first row"),
        ("path,label\na.png\n", "line 2: label is empty"),
        ("path,label,split\na.png,b,test\n", "holds no images to train on: it has no labels"),
        ("path,label\na.png,b\n", "has one class, 'b': it needs at least 2 labels"),
        ("path,label,split\na,b,train\na,c,train\na,d,test\n", "class 'd' is in test, but not in train"),
        (b"path,label\n\xff.png,b\n", "is not UTF-8 text: must be a CSV file in UTF-8"),
        ("path,label\na.png,b\n".encode("utf-16"), "is UTF-16 or not text: must be a CSV file in UTF-8"),
        ("path,label\n".encode("utf-16-le"), "is UTF-16 or not text"),
        ("path,label\na.png,b\nb.png,c\n", "none of its 2 files exists. .*start from the CSV file's own folder$"),
        ("path,label\nC:\\a.png,b\nC:\\b.png,c\n", "names a drive of Windows: make it relative"),
    ],
)
def test_a_csv_file_that_is_none_says_why(text, message, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_class_that_train_lacks_is_named(tmp_path):
    write_folder(tmp_path, splits=("train", "val"), count=1)
    write_folder(tmp_path, ("cat", "emu", "gnu"), splits=("test",), count=1)
    with pytest.raises(
        ValueError, match="classes 'emu', 'gnu' are in test, but not in train: test may only have train's"
    ):
        load(tmp_path)


def test_a_class_that_only_train_has_is_no_mistake(tmp_path):
    write_folder(tmp_path, ("a", "b", "c"), splits=("train",), count=1)
    write_folder(tmp_path, ("c",), splits=("test",), count=1)
    assert load(tmp_path).test.labels.tolist() == [2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "holds no images to train on: it has no class folders"),
        (lambda root: (root / "x.txt").touch(), "holds no images to train on: it has no class folders"),
        (lambda root: (root / "train").mkdir(), "holds no images to train on"),
        (
            lambda root: draw(root / "cat/1.png"),
            "has one class folder, 'cat': .* at least 2. If it holds them: data.path=.*/cat",
        ),
        (lambda root: draw(root / "train/cat/1.png"), "has one class, 'cat': it needs at least 2 class folders"),
        (lambda root: (draw(root / "cat/1.png"), (root / "dog").mkdir()), "class folder 'dog' holds no images"),
        (lambda root: (draw(root / "a/1.png"), draw(root / "b/.1.png")), "class folder 'b' holds no images"),
        (lambda root: write_folder(root, splits=("train", "val", "valid")), "has val and valid: keep one"),
        (lambda root: write_folder(root, splits=("test",)), "has a folder 'test' but none called 'train'"),
    ],
)
def test_a_folder_that_holds_no_dataset_says_why(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "data.path='nowhere' does not exist: looked for '/.*nowhere'"),
        (None, "data.path=null: must be a folder"),
        ("", "data.path='': must be a folder"),
    ],
)
def test_a_missing_folder_is_named(path, message):
    with pytest.raises(ValueError, match=message):
        load("x", path=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "data.channels=2: must be "),
        ({"resize": "zoom"}, "data.resize=zoom: must be one of stretch, pad, crop"),
        ({"background": [0, 0]}, r"data.background=\[0,0\]: must be a list of 3"),
        ({"on_bad_image": "ignore"}, "data.on_bad_image=ignore: must be one of fail, skip"),
        ({"workers": -1}, "data.workers=-1: must be "),
        ({"memory_limit": "much"}, "data.memory_limit=much: must be null, a number of bytes, or a size such as 500MB"),
        ({"colour": True}, "unknown key in data 'colour'"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(write_folder(tmp_path, count=1), **options)


def test_sizes_of_memory():
    for text, expected in (("12", 12), ("2GB", 2 * 10**9), ("1.5 kib", 1536), ("3MiB", 3 * 2**20), ("7B", 7)):
        assert parse_bytes("data.memory_limit", text) == expected


def test_what_lies_beside_the_classes_is_ignored_and_named_once(tmp_path, messages):
    write_folder(tmp_path, splits=("train", "test"), count=1)
    draw(tmp_path / "train/alone.png")
    (tmp_path / "read me.txt").touch()
    draw(tmp_path / "extra/more/1.png")
    for _ in range(2):
        assert len(load(tmp_path).train) == 2
    assert [text.partition(": ")[2] for text in messages() if "ignored" in text] == [
        "3 entries outside any class are ignored: read me.txt, extra, train/alone.png"
    ]


def test_channels_come_from_the_data_unless_they_are_given(tmp_path):
    write_folder(tmp_path / "grey", count=2)
    assert load(tmp_path / "grey").info.in_channels == 1
    assert load(tmp_path / "grey", channels=3).train.images.shape == (4, 3, 8, 8)
    draw(tmp_path / "grey/cat/red.png", mode="RGB")
    assert load(tmp_path / "grey").info.in_channels == 3
    assert load(tmp_path / "grey", channels=1).info.in_channels == 1


def test_images_of_several_sizes_ask_for_one(tmp_path):
    write_folder(tmp_path, count=2)
    draw(tmp_path / "cat/zz.png", (12, 8))
    with pytest.raises(ValueError, match=r"data.image_size=null, but '.*000.png' has 8 × 8 pixels, '.*zz.png' 12 × 8"):
        load(tmp_path)
    for resize in ("stretch", "pad", "crop"):
        assert load(tmp_path, image_size=6, resize=resize).info.input_shape == (1, 6, 6)


def test_a_size_that_the_first_look_does_not_see_is_found_all_the_same(tmp_path):
    write_folder(tmp_path, count=150)
    draw(tmp_path / "cat/000b.png", (12, 8))
    with pytest.raises(ValueError, match=r"data.image_size=null, but '.*000b.png' has 12 × 8 pixels, others 8 × 8"):
        load(tmp_path, workers=2)


def test_images_that_are_not_square_keep_their_size_or_get_one(tmp_path):
    write_folder(tmp_path, count=2, size=(8, 6))
    kept = load(tmp_path)
    assert (kept.info.image_size, kept.train.shape) == ((6, 8), (kept.info.in_channels, 6, 8))
    with Image.open(tmp_path / "cat" / sorted(path.name for path in (tmp_path / "cat").iterdir())[0]) as image:
        pixels = np.asarray(image.convert("RGB" if kept.info.in_channels == 3 else "L"))
    assert np.array_equal(kept.train.images[0].permute(1, 2, 0).squeeze().numpy(), pixels)
    for resize in ("stretch", "pad", "crop"):
        assert load(tmp_path, image_size=[5, 12], resize=resize).train.shape[1:] == (5, 12)
        assert load(tmp_path, image_size=[7, 7], resize=resize).info.image_size == 7
    draw(tmp_path / "cat/000b.png", (6, 8))
    with pytest.raises(ValueError, match=r"'.*000b.png' (has|.*) .*Set a whole number of pixels or \[HEIGHT"):
        load(tmp_path)


def write_bad(root):
    """Everything a folder may hold that is no image; returns how many."""
    bad = root / "cat"
    bad.mkdir(parents=True, exist_ok=True)
    (bad / "empty.png").touch()
    (bad / "text.jpg").write_text("no image")
    (bad / "cut.png").write_bytes((root / "dog/000.png").read_bytes()[:40])
    os.mkfifo(bad / "pipe.png")
    (bad / "loop.png").symlink_to("loop.png")
    (bad / "gone.png").symlink_to("nowhere")
    (bad / "null.png").symlink_to("/dev/zero")
    (bad / "a\nline.png").touch()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(bad)  # a socket's path may only have a hundred characters
        server.bind("socket.png")
        os.chdir(here)
    return 9


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_all_listed_or_skipped(workers, tmp_path):
    write_folder(tmp_path)
    count = write_bad(tmp_path)
    with pytest.raises(ValueError, match=rf"{count} of {20 + count} files cannot be read") as raised:
        load(tmp_path, workers=workers)
    lines = str(raised.value).splitlines()[1:]
    assert len(lines) == count
    reasons = dict(line.strip().split(": ", 1) for line in lines)
    assert reasons["cat/pipe.png"] == "a FIFO, not a file"
    assert reasons["cat/null.png"] == "a device, not a file"
    assert reasons["cat/empty.png"] == "empty: zero bytes"
    assert "cat/a\\nline.png" in reasons
    source = load(tmp_path, workers=workers, on_bad_image="skip")
    assert source.train.labels.tolist() == [0, 1] * 10
    assert dict(source.skipped) == reasons


def test_a_long_list_of_bad_images_is_cut_and_counted(tmp_path):
    write_folder(tmp_path, count=1)
    for number in range(30):
        (tmp_path / f"dog/{number}.txt").touch()
    with pytest.raises(ValueError, match=r"30 of 32 files[^!]*\n  and 10 more$"):
        load(tmp_path)


def test_a_class_of_bad_images_alone_is_named(tmp_path):
    write_folder(tmp_path, count=2)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu/1.png").touch()
    with pytest.raises(ValueError, match="no image of class 'emu' can be read"):
        load(tmp_path, on_bad_image="skip")


def test_nested_folders_count_hidden_ones_do_not_and_links_end(tmp_path):
    write_folder(tmp_path, count=2)
    draw(tmp_path / "cat/deep/er/1.png")
    draw(tmp_path / "cat/.hidden/1.png")
    draw(tmp_path / "cat/.1.png")
    draw(tmp_path / ".git/1.png")
    (tmp_path / "cat/deep/up").symlink_to("..")
    (tmp_path / "cat/deep/again").symlink_to("er")
    (tmp_path / "dog/round").symlink_to(tmp_path)
    found = paths_of(tmp_path)
    assert [path for path in found if path.startswith("cat")] == ["cat/000.png", "cat/001.png", "cat/deep/again/1.png"]
    # Through the link, a dog's folder also reaches the cats', each once.
    assert len([path for path in found if path.startswith("dog/round/cat")]) == 3


@pytest.mark.parametrize("name", ["with space", "new\nline", "😀", "%s $x *?[", "-rf", "ünï"])
def test_names_of_any_text_work(name, tmp_path):
    write_folder(tmp_path, (name, "zz"), count=1)
    draw(tmp_path / name / f"{name}.png")
    source = load(tmp_path)
    assert set(source.info.class_names) == {name, "zz"}
    assert len(source.train) == 3


def test_names_that_are_not_utf_8_work_and_are_told_apart(tmp_path):
    for folder in (b"caf\xe9", b"caf\xe8"):
        path = os.fsencode(tmp_path) + b"/" + folder
        os.mkdir(path)
        draw(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", path + b"/\xff.png")
    source = load(tmp_path)
    assert source.info.class_names == ("caf\\xe8", "caf\\xe9")
    json.dumps(source.info.class_names).encode()
    draw(tmp_path / "caf\\xe9/1.png")
    with pytest.raises(ValueError, match=r"two class folders are both called"):
        load(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, count=1)
    real = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"'.*dog' cannot be read \(Permission denied\)"):
        load(tmp_path)


# The cache


@pytest.fixture
def messages(caplog):
    caplog.set_level("INFO", logger="cnnbench")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_second_start_reads_the_cache_and_gets_the_same_images(tmp_path, messages):
    write_folder(tmp_path / "set", mode="RGB", splits=("train", "test"))
    first, second = (load(tmp_path / "set", cache=str(tmp_path / "cache"), workers=2) for _ in range(2))
    assert ["20 images were read from the cache" in text for text in messages()[-2:]] == [True, True]
    for split in ("train", "test"):
        assert torch.equal(getattr(first, split).images, getattr(second, split).images)
    assert [file.stat().st_size > 20 * 3 * 64 for file in (tmp_path / "cache").iterdir()] == [True, True]


def changes(root):
    file = root / "cat/000.png"
    before = file.stat()

    def same_size_and_time():
        draw(file, value=255)
        content = file.read_bytes().ljust(before.st_size, b"\0")
        file.write_bytes(content[: before.st_size])
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return {
        "touched": file.touch,
        "same size and time": same_size_and_time,
        "renamed": lambda: file.rename(root / "cat/zz.png"),
        "added": lambda: draw(root / "cat/new.png"),
        "removed": file.unlink,
    }


@pytest.mark.parametrize("change", ["touched", "same size and time", "renamed", "added", "removed"])
def test_a_stale_cache_is_rebuilt_in_its_place(change, tmp_path, messages):
    cache = tmp_path / "cache"
    load(write_folder(tmp_path / "set"), cache=str(cache))
    changes(tmp_path / "set")[change]()
    source = load(tmp_path / "set", cache=str(cache), on_bad_image="skip")
    assert not any("were read from the cache" in text for text in messages())
    fresh = load(tmp_path / "set", on_bad_image="skip")
    assert torch.equal(source.train.images, fresh.train.images)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("options", [{"channels": 3}, {"image_size": 4}, {"image_size": 4, "resize": "crop"}])
def test_other_settings_have_a_cache_of_their_own(options, tmp_path, messages):
    write_folder(tmp_path / "set")
    for _ in range(2):
        load(tmp_path / "set", cache=str(tmp_path / "cache"))
        load(tmp_path / "set", cache=str(tmp_path / "cache"), **options)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert len([text for text in messages() if "were read from the cache" in text]) == 2


@pytest.mark.parametrize("place", [0, 100, 1279, 1300, -1, -5, -12, -30])
def test_a_single_flipped_bit_anywhere_in_the_cache_is_found_and_mended(place, tmp_path, messages):
    write_folder(tmp_path / "set")
    expected = load(tmp_path / "set", cache=str(tmp_path / "cache")).train.images.clone()
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << RANDOM.integers(8)
    file.write_bytes(content)
    assert torch.equal(load(tmp_path / "set", cache=str(tmp_path / "cache")).train.images, expected)
    assert any("is damaged" in text for text in messages())
    load(tmp_path / "set", cache=str(tmp_path / "cache"))
    assert "were read from the cache" in messages()[-1]


@pytest.mark.parametrize("size", [0, 10, 1279, 1400])
def test_a_cache_that_is_cut_short_is_rebuilt(size, tmp_path, messages):
    write_folder(tmp_path / "set")
    expected = load(tmp_path / "set", cache=str(tmp_path / "cache")).train.images.clone()
    (file,) = (tmp_path / "cache").iterdir()
    os.truncate(file, size)
    assert torch.equal(load(tmp_path / "set", cache=str(tmp_path / "cache")).train.images, expected)
    assert any("is damaged" in text for text in messages())


@pytest.mark.parametrize(("when", "room"), [("at first", 100), ("half way", 8_000), ("at last", 12_800)])
def test_a_full_disk_only_loses_the_cache(when, room, tmp_path, monkeypatch, messages):
    write_folder(tmp_path / "set", count=100)
    expected = load(tmp_path / "set").train.images  # 12,800 bytes
    if when != "at first":
        monkeypatch.delattr(os, "posix_fallocate")  # as where the file system cannot reserve room
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        found = load(tmp_path / "set", cache=str(tmp_path / "cache")).train.images
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert torch.equal(found, expected)
    assert any("(File too large): this run continues without it" in text for text in messages())
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path, messages):
    write_folder(tmp_path / "set")
    (tmp_path / "cache").touch()
    assert len(load(tmp_path / "set", cache=str(tmp_path / "cache")).train) == 20
    assert any("this run continues without it" in text for text in messages())


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [("auto", "/x", "/x/cnnbench"), ("auto", "", "/h/.cache/cnnbench"), ("~/c", "/x", "/h/c")],
)
def test_the_cache_is_where_it_is_told_to_be_or_the_user_keeps_caches(given, variable, expected, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", "/h")
    assert str(pixel_store.name_cache_file(given, "/r", "").parent) == expected


def test_bad_images_are_remembered_with_the_others(tmp_path, messages):
    write_folder(tmp_path / "set")
    write_bad(tmp_path / "set")
    first, second = (load(tmp_path / "set", cache=str(tmp_path / "c"), on_bad_image="skip") for _ in range(2))
    assert "were read from the cache" in messages()[-1]
    assert first.skipped == second.skipped
    assert torch.equal(first.train.images, second.train.images)


# Classes of unequal size


def test_a_balanced_sampler_draws_every_class_equally_often_as_a_function_of_seed_and_epoch():
    labels = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)[torch.randperm(1000)]
    order = order_epoch(labels, "balanced", seed=1, epoch=2)
    assert len(order) == 1000
    counts = labels[order].bincount(minlength=4).tolist()
    assert counts[2] == 0
    assert all(280 < count < 390 for count in (counts[0], counts[1], counts[3]))
    assert len(torch.unique(order[labels[order] == 3])) == 10
    assert torch.equal(order, order_epoch(labels, "balanced", 1, 2))
    assert not torch.equal(order, order_epoch(labels, "balanced", 1, 3))
    batches = Batches(
        Split(torch.zeros(1000, 1, 2, 2, dtype=torch.uint8), labels), 64, mean=[0], std=[1], shuffle_seed=1,
        sampler="balanced",
    )  # fmt: skip
    assert torch.equal(torch.cat([some for _, some in batches.iterate_epoch(2)]), labels[order])


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    np.testing.assert_allclose(balance_weights(labels, 3), expected)
    assert balance_weights(labels, 4)[3] == 0


def test_class_weights_weigh_the_training_loss():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 2])
    weights = torch.tensor([0.5, 1.0, 4.0])
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (each * weights[labels]).sum() / weights[labels].sum()
    torch.testing.assert_close(compute_loss(CLASSIFICATION, logits, torch.empty(0), labels, 0.0, weights), expected)


@pytest.mark.parametrize("override", ["data.class_weights=balanced", "data.sampler=balanced"])
def test_balancing_changes_the_weights_and_resumes_to_the_same_bits(override, tmp_path):
    from test_training import run

    from conftest import assert_same_tensors

    run(tmp_path / "plain")
    for name in "ab":
        run(tmp_path / name, override)
    assert_same_tensors(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_tensors(tmp_path / "plain", tmp_path / "a")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.class_weights=even", "data.class_weights=even: must be one of none, balanced"),
        ("data.sampler=random", "data.sampler=random: must be one of uniform, balanced"),
        ("data.test_fraction=1", "data.test_fraction=1: must be a number above 0 and below 1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(override, message):
    with pytest.raises(ValueError, match=message):
        compose_config([override])


def test_an_autoencoder_has_no_classes_to_weigh(tmp_path):
    from cnnbench.experiment.build import build_parts

    with pytest.raises(ValueError, match=r"data.class_weights=balanced: reconstruction has no labels"):
        build_parts(compose_config(["model=conv_autoencoder", "data.class_weights=balanced"]))


# MNIST


def export(root, split, images, labels):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / split / str(int(label)) / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image[0])).save(path)


def write_idx(root, split, images, labels):
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIII", 0x803, len(images), 28, 28)
    (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
    (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels.tolist()))


@pytest.mark.parametrize("limit", [None, 1])
def test_mnist_as_a_folder_of_pngs_trains_to_the_same_bits(limit, tmp_path, mnist_root):
    from conftest import assert_same_tensors, without_times

    mnist = load_source("mnist", root=mnist_root, download=False)
    for name, file, count in (("train", "train", 3000), ("test", "t10k", 500)):
        split = getattr(mnist, name)[torch.arange(count)]
        export(tmp_path / "png", name, split.images, split.labels)
        write_idx(tmp_path / "idx", file, split.images, split.labels)
    common = ["model=mlp", "trainer.epochs=1", "data.val_fraction=0.1", "data.normalize=dataset"]
    folder = ["data=image_folder", f"data.path={tmp_path}/png", f"data.cache={tmp_path}/cache"]
    folder += [f"data.memory_limit={limit}"] if limit else []
    for name, own in (("a", ["data=mnist", f"data.root={tmp_path}/idx", "data.download=false"]), ("b", folder)):
        (tmp_path / name).mkdir()
        config = compose_config([*common, *own])
        assert from_dict(to_dict(config)) == config
        run_job(config, tmp_path / name, [])
    assert_same_tensors(tmp_path / "a", tmp_path / "b")
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


# As a user starts it


def photos(root, count=12, **options):
    """Two classes that can be told apart: dark and light."""
    for number in range(count):
        draw(root / f"dark/{number}.png", (12, 10), "RGB", value=20 + number, **options)
        draw(root / f"light/{number}.jpg", (9, 14), "RGB", value=200 + number, **options)
    return root


SHORT = ("data.image_size=28", "model=mlp", "trainer.epochs=2", "data.test_fraction=0.25")


@pytest.fixture
def train(cnnbench, tmp_path):
    def run(*overrides, path="photos"):
        return cnnbench("train", "data=image_folder", f"data.path={path}", "data.cache=home", *SHORT, *overrides)

    return run


def test_training_on_a_folder_and_evaluating_on_another(train, cnnbench, tmp_path):
    photos(tmp_path / "photos")
    done = train("trainer.epochs=5")
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / done.stdout.splitlines()[-1])
    assert run.read_summary()["test_images"] == 6
    assert run.read_summary()["test/accuracy"] == 1
    assert read_confusion(run.path)[0] == ["dark", "light"]
    assert not (run.path / "skipped.csv").exists()
    assert len(list((tmp_path / "home").iterdir())) == 3  # the test images lie apart; what data.check found
    again = train()
    assert "18 images were read from the cache" in again.stderr
    assert "6 images were read from the cache" in again.stderr
    photos(tmp_path / "other", count=7)
    done = cnnbench("evaluate", str(run.path), "--data", "image_folder", "--path", "other")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run.path / "evaluations/image_folder_other_test/metrics.json").read_text())
    assert (metrics["images"], metrics["accuracy"], metrics["path"]) == (6, 1, "other")  # it has seen the others
    assert "and trained or validated on 8, which are left out" in done.stderr
    done = cnnbench("evaluate", str(run.path))
    assert json.loads((run.path / "evaluations/image_folder_test/metrics.json").read_text())["images"] == 6
    (tmp_path / "other/dark").rename(tmp_path / "other/dusky")
    done = cnnbench("evaluate", str(run.path), "--path", "other")
    assert done.returncode == 2
    assert "does not fit the run: it has dusky, which the run lacks, and lacks dark, which the run was" in done.stderr


def test_evaluating_a_run_on_digits_with_a_folder(cnnbench, tmp_path):
    done = cnnbench("train", "model=mlp", "trainer.epochs=1", "data.train_limit=200")
    run = done.stdout.splitlines()[-1]
    for number in range(30):
        draw(tmp_path / f"own/{number % 10}/{number}.png", (40, 40), "RGB")
    done = cnnbench("evaluate", run, "--data", "image_folder", "--path", "own")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^images +30$", done.stdout, re.MULTILINE)


def test_a_damaged_cache_is_mended_with_a_message(train, tmp_path):
    photos(tmp_path / "photos")
    first = train()
    file = max((tmp_path / "home").iterdir(), key=lambda path: path.stat().st_size)  # of the training images
    content = bytearray(file.read_bytes())
    content[777] ^= 4
    file.write_bytes(content)
    second = train()
    assert second.returncode == 0
    assert "is damaged: a checksum of its pixels is wrong. Decoding the images again" in second.stderr
    from conftest import assert_same_tensors

    assert_same_tensors(*(tmp_path / done.stdout.splitlines()[-1] for done in (first, second)))


@pytest.mark.parametrize(("count", "subject"), [(1, "1 file was"), (1_000, "1,000 files were")])
def test_the_log_counts_skipped_files(count, subject, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="cnnbench")
    write_skipped(RunFolder(tmp_path), SimpleNamespace(skipped=[("a.png", "empty")] * count))
    assert caplog.messages == [f"{subject} skipped; skipped.csv lists the reasons"]


def test_bad_images_stop_a_run_or_are_listed_in_its_folder(train, tmp_path):
    photos(tmp_path / "photos")
    (tmp_path / "photos/dark/broken \udcff, or so.png").write_bytes(b"no image")
    (tmp_path / "photos/light/empty.png").touch()
    done = train()
    assert done.returncode == 2
    assert "2 of 26 files cannot be read as images; data.on_bad_image=skip leaves them out" in done.stderr
    assert "light/empty.png: empty: zero bytes" in done.stderr
    assert not (tmp_path / "outputs").exists()
    done = train("data.on_bad_image=skip")
    assert done.returncode == 0, done.stderr
    assert "2 files were skipped" in done.stderr
    (table,) = tmp_path.rglob("skipped.csv")
    lines = table.read_text().splitlines()
    assert lines[0] == "path,reason"
    assert lines[1].startswith('"dark/broken \\xff, or so.png",')
    assert lines[2] == "light/empty.png,empty: zero bytes"


@pytest.mark.parametrize("name", ["missing", "photos/dark/1.png"])
def test_a_path_that_holds_no_dataset_ends_with_2(name, train, tmp_path):
    photos(tmp_path / "photos")
    done = train(path=name)
    assert done.returncode == 2
    assert name in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_two_runs_may_fill_one_cache_at_once(tmp_path):
    import subprocess

    photos(tmp_path / "photos", count=50)
    command = [sys.executable, "-m", "cnnbench", "train", "data=image_folder", "data.path=photos", "data.cache=home"]
    both = [subprocess.Popen([*command, *SHORT, f"name=r{i}"], cwd=tmp_path) for i in range(2)]
    assert [run.wait(timeout=200) for run in both] == [0, 0]
    assert len(list((tmp_path / "home").iterdir())) == 3


def test_load_dataset_gives_the_source_its_size(tmp_path):
    photos(tmp_path / "photos", count=6)
    options = ["data=image_folder", f"data.path={tmp_path}/photos", "data.cache=null", "data.image_size=5"]
    dataset = load_dataset(compose_config([*options, "data.test_fraction=0.5", "data.val_fraction=0"]))
    assert dataset.train.images.shape == (6, 3, 5, 5)


def test_a_run_folder_names_the_folder_and_its_options(tmp_path):
    config = compose_config(["data=image_folder", "data.path=x y", "data.memory_limit=2GB", "data.background=[0,0,0]"])
    assert config.data.options["background"] == [0, 0, 0]
    assert from_dict(to_dict(config)) == config
    assert Path(config.data.options["path"]) == Path("x y")


def test_a_test_set_is_known_by_its_images_wherever_they_lie(tmp_path):
    def test_set(folder, *more):
        run = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        run.mkdir()
        command = ["data=image_folder", f"data.path={folder}", "model=mlp", "trainer.epochs=1", *more]
        return run_job(compose_config(command), run, [])["test_set_sha256"]

    for name in ("one", "other"):
        for kind in ("cat", "dog"):
            for number in range(10):
                draw(tmp_path / name / kind / f"{number}.bmp")
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere/one")
    asked = [(folder, *more) for folder in ("one", "elsewhere/one") for more in ((), ("data.image_size=4",))]
    assert len({test_set(tmp_path / folder, *more) for folder, *more in asked}) == 1
    assert test_set(tmp_path / "other") != test_set(tmp_path / "one"), "as many files of the same names and sizes"
