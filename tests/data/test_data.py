"""Splits, normalisation and batches; every dataset's reader on files in the publisher's format."""

import bz2
import gzip
import hashlib
import importlib.util
import inspect
import pickle
import socket
import struct

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import registry
from cnnbench.cli.choices import list_groups
from cnnbench.cli.compose import compose_config
from cnnbench.data import Batches, Split, find_data_shape, load_source, normalize, prepare
from cnnbench.data.dataset import DatasetInfo, Source
from cnnbench.data.loader import make_permutation
from cnnbench.data.preparation import measure_normalization, resize, split_by_class
from cnnbench.reproducibility import make_generator


@pytest.fixture(scope="module")
def digits():
    return load_source("digits", root="", download=False)


def test_every_dataset_has_a_yaml_and_every_yaml_composes():
    assert list_groups()["data"] == registry.list_names("data")
    for name in list_groups()["data"]:
        assert compose_config([f"data={name}"]).data.name == name


def test_digits_are_scikit_learns_with_a_fixed_stratified_test_split(digits):
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert int(digits.train.images.max()) == 255
    together = torch.bincount(torch.cat([digits.train.labels, digits.test.labels]))
    share = torch.bincount(digits.test.labels) / together
    assert share.min() > 0.19
    assert share.max() < 0.21


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.floats(0, 1), st.integers(0, 99))
def test_a_stratified_split_is_exact_disjoint_and_keeps_every_share(labels, fraction, seed):
    labels = torch.tensor(labels)
    count = round(fraction * len(labels))
    chosen, rest = split_by_class(labels, count, make_generator(seed, "test"))
    assert len(chosen) == count
    assert torch.equal(torch.cat([chosen, rest]).sort().values, torch.arange(len(labels)))
    counts = torch.bincount(labels, minlength=6)
    taken = torch.bincount(labels[chosen], minlength=6)
    assert ((taken - counts * count / len(labels)).abs() < 1).all()


def test_digits_are_the_same_by_scikit_learns_own_reader(digits, monkeypatch):
    import sklearn.datasets  # noqa: F401

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    again = registry.build("data", "digits")
    for part in ("train", "test"):
        ours, theirs = getattr(digits, part), getattr(again, part)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_splits_depend_on_the_seed_and_on_nothing_else(digits):
    def val(seed):
        torch.manual_seed(0)
        torch.rand(seed)
        return prepare(digits, seed=seed, val_fraction=0.1).val.images

    assert torch.equal(val(3), val(3))
    assert not torch.equal(val(3), val(4))


def test_train_limit_counts_all_labelled_images_and_the_test_split_is_whole(digits):
    dataset = prepare(digits, seed=0, val_fraction=0.2, train_limit=100)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (80, 20, 360)
    assert torch.bincount(dataset.train.labels).min() >= 6
    assert len(prepare(digits, seed=0, train_limit=10**6).train) == 1437


def test_what_was_found_is_told_in_a_line(digits):
    assert prepare(digits, seed=0, val_fraction=0.1, image_size=28).describe() == (
        "digits: 10 classes, 1,293 training, 144 validation, 360 test images of 8×8, resized to 28×28, 1 channel"
    )
    whole = prepare(digits, seed=0).describe()
    assert whole == "digits: 10 classes, 1,437 training, no validation, 360 test images of 8×8, 1 channel"
    info = DatasetInfo("mine", in_channels=3, image_size=1, class_names=("a",), dimensions=1)
    signals = Split(torch.zeros(5, 3, 1), torch.zeros(5, dtype=torch.long))
    told = prepare(Source(info, signals, signals), seed=0, normalization="none").describe()
    assert told == "mine: 1 class, 5 training, no validation, 5 test signals of 1 sample, 3 channels"


def test_without_a_fraction_there_is_no_validation_and_training_keeps_its_order(digits):
    dataset = prepare(digits, seed=0)
    assert dataset.val is None
    assert torch.equal(dataset.train.labels, digits.train.labels)


@pytest.mark.parametrize(("fraction", "limit"), [(0.001, 100), (0.999, 100)])
def test_a_fraction_that_leaves_nothing_is_refused(digits, fraction, limit):
    with pytest.raises(ValueError, match=r"data.val_fraction=0\.\d+ of 100 training images is"):
        prepare(digits, seed=0, val_fraction=fraction, train_limit=limit)


def test_resizing_keeps_uint8_and_a_constant_image(digits):
    split = Split(torch.full((3, 3, 10, 10), 77, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    for size in (5, 28):
        images = resize(split, size, size).images
        assert images.shape == (3, 3, size, size)
        assert (images == 77).all()
    assert resize(digits.test, 8, 8) is digits.test


def test_measured_constants_equal_numpys(digits):
    images = torch.randint(0, 200, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = measure_normalization("dataset", 3, images.split(7))
    scaled = images.numpy() / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)))
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)))
    assert measure_normalization("half", 3, images.split(7)) == ((0.5,) * 3, (0.5,) * 3)
    assert measure_normalization("none", 3, images.split(7)) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_equals_its_formula(channels):
    images = torch.randint(0, 256, (4, channels, 5, 5), dtype=torch.uint8)
    mean, std = torch.rand(channels), torch.rand(channels) + 0.1
    expected = (images / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(normalize(images, mean, std), expected)


def numbered(count):
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    return Split(images, torch.arange(count))


def order(batches, epoch):
    return torch.cat([labels for _, labels in batches.iterate_epoch(epoch)])


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 9))
def test_an_epoch_serves_every_image_once_with_its_label(count, batch_size, epoch):
    batches = Batches(numbered(count), batch_size, mean=[0], std=[1 / 255], shuffle_seed=1)
    seen = [(images, labels) for images, labels in batches.iterate_epoch(epoch)]
    assert len(seen) == len(batches)
    assert all(len(labels) == batch_size for _, labels in seen[:-1])
    labels = torch.cat([labels for _, labels in seen])
    torch.testing.assert_close(torch.cat([images for images, _ in seen]).flatten(), labels.float())
    assert torch.equal(labels.sort().values, torch.arange(count))


def test_the_order_is_a_function_of_seed_and_epoch():
    first, second = (Batches(numbered(100), 7, mean=[0], std=[1], shuffle_seed=3) for _ in range(2))
    order(first, 0)
    assert torch.equal(order(first, 5), order(second, 5))
    assert not torch.equal(order(first, 5), order(first, 6))
    other = Batches(numbered(100), 7, mean=[0], std=[1], shuffle_seed=4)
    assert not torch.equal(order(first, 5), order(other, 5))
    plain = Batches(numbered(100), 7, mean=[0], std=[1])
    assert torch.equal(order(plain, 5), torch.arange(100))


def test_pixels_are_permuted_as_by_hand_in_every_channel():
    images = torch.arange(8, dtype=torch.uint8).view(1, 2, 2, 2)
    batches = Batches(Split(images, torch.zeros(1).long()), 1, mean=[0, 0], std=[1 / 255] * 2)
    batches.permutation = torch.tensor([2, 0, 3, 1])
    ((served, _),) = batches.iterate_epoch()
    assert served.tolist() == [[[[2, 0], [3, 1]], [[6, 4], [7, 5]]]]


def test_the_permutation_is_fixed_and_follows_the_augmentation():
    images = torch.arange(5 * 28 * 28).remainder(251).byte().view(5, 1, 28, 28)
    split, constants = Split(images, torch.arange(5)), {"mean": [0], "std": [1 / 255]}
    plain = Batches(split, 5, **constants)
    permuted = plain.with_permuted_pixels()
    assert hashlib.sha256(make_permutation(784).numpy().tobytes()).hexdigest().startswith("26053018ca29e250")
    assert make_permutation(784).sort().values.equal(torch.arange(784))
    ((before, _),), ((after, _),) = plain.iterate_epoch(), permuted.iterate_epoch()
    assert after.flatten(1).equal(before.flatten(1)[:, make_permutation(784)])
    moved = Batches(split, 5, **constants, augmentation=MoveRight())
    ((before, _),), ((after, _),) = moved.iterate_epoch(), moved.with_permuted_pixels().iterate_epoch()
    assert after.flatten(1).equal(before.flatten(1)[:, make_permutation(784)])


class MoveRight:
    """An augmentation that moves images by a pixel."""

    mixes = False

    def __call__(self, images, labels, indices, epoch):
        return images.roll(1, dims=3), labels


def idx(path, array):
    kinds = {np.dtype(np.uint8): 8, np.dtype(">i4"): 12}
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, kinds[array.dtype], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


RANDOM = np.random.default_rng(0)
IMAGES = {split: RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8) for split, n in (("train", 12), ("test", 6))}
COLOUR = {split: RANDOM.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for split, n in (("train", 12), ("test", 6))}
LABELS = {split: (np.arange(len(images)) % 10).astype(np.uint8) for split, images in IMAGES.items()}


def write_mnist_family(folder, prefix=("train", "t10k")):
    for name, split in zip(prefix, ("train", "test"), strict=True):
        idx(folder / f"{name}-images-idx3-ubyte", IMAGES[split])
        idx(folder / f"{name}-labels-idx1-ubyte", LABELS[split])


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_the_mnist_family_is_read_as_it_is_stored(name, folder, tmp_path):
    write_mnist_family(tmp_path / folder / "raw")
    check(name, tmp_path, {split: images[:, None] for split, images in IMAGES.items()})


@pytest.mark.parametrize(("split", "shift"), [("balanced", 0), ("letters", 1)])
def test_emnist_is_turned_upright_and_letters_count_from_0(split, shift, tmp_path):
    for part in ("train", "test"):
        idx(tmp_path / f"EMNIST/raw/emnist-{split}-{part}-images-idx3-ubyte", IMAGES[part])
        idx(tmp_path / f"EMNIST/raw/emnist-{split}-{part}-labels-idx1-ubyte", LABELS[part] + shift)
    upright = {part: images.transpose(0, 2, 1)[:, None] for part, images in IMAGES.items()}
    check("emnist", tmp_path, upright, split=split)


def test_an_unknown_emnist_split_is_named():
    with pytest.raises(ValueError, match=r"data.split=letter: must be one of balanced, .*Did you mean letters\?"):
        load_source("emnist", root="x", download=False, options={"split": "letter"})


def test_qmnist_is_read_with_its_first_label_column(tmp_path):
    for part in ("train", "test"):
        labels = np.zeros((len(LABELS[part]), 8), dtype=">i4")
        labels[:, 0], labels[:, 1] = LABELS[part], 99
        raw = tmp_path / "QMNIST/raw"
        idx(raw / f"qmnist-{part}-images-idx3-ubyte", IMAGES[part])
        idx(raw / f"qmnist-{part}-labels-idx2-int", labels)
        for name in (f"qmnist-{part}-images-idx3-ubyte", f"qmnist-{part}-labels-idx2-int"):
            with gzip.open(raw / f"{name}.gz", "wb") as file:
                file.write((raw / name).read_bytes())
    check("qmnist", tmp_path, {part: images[:, None] for part, images in IMAGES.items()})


def test_usps_is_read_from_its_text(tmp_path):
    (tmp_path / "USPS").mkdir()
    images = {part: array[:, :16, :16] for part, array in IMAGES.items()}
    for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        lines = []
        for image, label in zip(images[part], LABELS[part], strict=True):
            values = " ".join(f"{i + 1}:{v / 255 * 2 - 1:.6f}" for i, v in enumerate(image.ravel()))
            lines.append(f"{label + 1} {values}")
        (tmp_path / "USPS" / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    source = load_source("usps", root=str(tmp_path), download=False)
    assert source.info.image_size == 16
    assert (source.train.images[:, 0].numpy().astype(int) - images["train"]).max() <= 1
    np.testing.assert_array_equal(source.test.labels, LABELS["test"])


def test_svhn_is_read_from_its_mat_files(tmp_path, monkeypatch):
    (tmp_path / "SVHN").mkdir()
    for part in ("train", "test"):
        labels = np.where(LABELS[part] == 0, 10, LABELS[part])[:, None]
        scipy.io.savemat(tmp_path / f"SVHN/{part}_32x32.mat", {"X": COLOUR[part].transpose(2, 3, 1, 0), "y": labels})
    accept_as_published(monkeypatch, tmp_path)
    check("svhn", tmp_path, COLOUR)


def accept_as_published(monkeypatch, root):
    """Let the files below a folder be those whose hashes are known."""
    known = {f"{path.parent.name}/{path.name}": hashlib.md5(path.read_bytes()).hexdigest() for path in root.glob("*/*")}
    monkeypatch.setattr("cnnbench.data.sets.torchvision_sets.CHECKSUMS", known)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))
@pytest.mark.parametrize(
    ("name", "folder", "files", "names", "key"),
    [
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "batches.meta", "label_names"),
        ("cifar100", "cifar-100-python", ["train"], "meta", "fine_label_names"),
    ],
)
def test_cifar_is_read_from_its_batches(name, folder, files, names, key, protocol, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir()
    classes = [f"class {i}" for i in range(10)]
    parts = np.array_split(np.arange(12), len(files))
    for file, part in zip([*files, "test_batch" if name == "cifar10" else "test"], [*parts, None], strict=True):
        images = COLOUR["test"] if part is None else COLOUR["train"][part]
        labels = LABELS["test"] if part is None else LABELS["train"][part]
        label_key = "labels" if name == "cifar10" else "fine_labels"
        content = {"data": images.reshape(len(images), -1), label_key: labels.tolist()}
        (tmp_path / folder / file).write_bytes(pickle.dumps(content, protocol))
    (tmp_path / folder / names).write_bytes(pickle.dumps({key: classes}, protocol))
    accept_as_published(monkeypatch, tmp_path)
    source = check(name, tmp_path, COLOUR)
    assert source.info.class_names == tuple(classes)


def check(name, root, images, **options):
    source = load_source(name, root=str(root), download=False, options=options)
    for part, split in (("train", source.train), ("test", source.test)):
        np.testing.assert_array_equal(split.images, images[part])
        np.testing.assert_array_equal(split.labels, LABELS[part])
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
    shape, classes = find_data_shape(name, root="nowhere", options=options)
    assert shape == source.info.input_shape
    if name != "cifar100":  # this test's files name 10 of its 100 classes
        assert classes == source.info.num_classes
    return source


def test_mnist_itself(mnist_root):
    source = load_source("mnist", root=mnist_root, download=False)
    assert (len(source.train), len(source.test)) == (60_000, 10_000)
    assert source.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    mean, std = measure_normalization("dataset", 1, source.train.iterate_chunks())
    assert (round(mean[0], 4), round(std[0], 4)) == (0.1307, 0.3081)


def list_downloaded():
    """The datasets that ask whether they may download."""
    return [
        name
        for name in registry.list_names("data")
        if "download" in inspect.signature(registry.find_part("data", name)).parameters
    ]


def test_the_published_datasets_ask_whether_they_may_download():
    assert {"mnist", "emnist", "usps", "svhn", "cifar10"} <= set(list_downloaded())


@pytest.mark.parametrize("name", list_downloaded())
def test_without_download_a_missing_set_is_named_and_the_network_left_alone(name, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    options = {"split": "balanced"} if name == "emnist" else {}
    with pytest.raises(ValueError, match=rf"data={name} is not in .*data.download=false.*data.root=DIR.*CNNBENCH_DATA"):
        load_source(name, root=str(tmp_path / "none"), download=False, options=options)
    assert not (tmp_path / "none").exists()


def test_a_download_that_fails_says_so_and_leaves_no_folders(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ValueError, match=r"data=mnist is not in .*MNIST/raw and downloading it failed"):
        load_source("mnist", root=str(tmp_path / "none"), download=True)
    assert list(tmp_path.iterdir()) == []
