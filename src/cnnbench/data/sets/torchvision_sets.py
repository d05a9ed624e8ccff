"""The classic sets that torchvision knows, from the files it knows them by; if allowed, downloaded by it.

They are read here, not by torchvision: as data alone (it unpickles CIFAR), with every size checked before it is
believed, and a second sooner.
"""

import hashlib
import io
import string
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.files.archives import decompressed
from cnnbench.data.files.cifar_files import images_of, names_of, numbers_of, read_pickle
from cnnbench.data.files.downloads import fetch
from cnnbench.data.files.idx import find_idx, read_idx
from cnnbench.registry import register, unknown
from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import format_path, make_printable

IDX_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")
MNIST_FILES = tuple(f"{part}-{kind}" for part in ("train", "t10k") for kind in IDX_KINDS)
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
DIGITS = tuple("0123456789")
CHARACTERS = tuple(sorted(string.digits + string.ascii_letters))
DISTINCT = tuple(one for one in CHARACTERS if one not in set("cijklmopsuvwxyz"))  # from their capitals
EMNIST_NAMES = {
    "balanced": DISTINCT,
    "byclass": CHARACTERS,
    "bymerge": DISTINCT,
    "digits": DIGITS,
    "letters": tuple(string.ascii_lowercase),
    "mnist": DIGITS,
}
LARGEST_FILE = 2**28  # bytes; SVHN's training images have 1.9e8
# The MD5 that torchvision, too, asks of these files before it parses them.
CHECKSUMS = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    "SVHN/train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "SVHN/test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
SHAPES = {  # one image and the number of classes
    "mnist": ((1, 28, 28), 10),
    "fashion_mnist": ((1, 28, 28), 10),
    "kmnist": ((1, 28, 28), 10),
    "qmnist": ((1, 28, 28), 10),
    "usps": ((1, 16, 16), 10),
    "svhn": ((3, 32, 32), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
}

for _name, _shape in SHAPES.items():
    register("data_shape", _name)(lambda shape=_shape: shape)


@register("data", "mnist")
def mnist(root: str, download: bool, with_test: bool = True) -> Source:
    """MNIST: 60,000 + 10,000 handwritten digits, 28×28 grey (LeCun, Cortes and Burges, 1998)."""
    return _idx("mnist", "MNIST", root, download, DIGITS, with_test=with_test)


@register("data", "fashion_mnist")
def fashion_mnist(root: str, download: bool, with_test: bool = True) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28×28 grey (arXiv:1708.07747)."""
    return _idx("fashion_mnist", "FashionMNIST", root, download, FASHION, with_test=with_test)


@register("data", "kmnist")
def kmnist(root: str, download: bool, with_test: bool = True) -> Source:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive hiragana, 28×28 grey (arXiv:1812.01718)."""
    return _idx("kmnist", "KMNIST", root, download, KMNIST, with_test=with_test)


@register("data", "emnist")
def emnist(root: str, download: bool, split: str, with_test: bool = True) -> Source:
    """EMNIST: handwritten letters and digits, 28×28 grey (arXiv:1702.05373).

    Args:
        split: balanced (47 classes), byclass (62), bymerge (47), digits, letters (26) or mnist.
    """
    emnist_shape(split)
    files = [f"emnist-{split}-{part}-{kind}" for part in ("train", "test") for kind in IDX_KINDS]
    # They lie on their side, and `letters` counts from 1.
    first = 1 if split == "letters" else 0
    names, how = EMNIST_NAMES[split], partial(_idx, files=files, first_label=first, turned=True)
    return how("emnist", "EMNIST", root, download, names, with_test=with_test)


@register("data_shape", "emnist")
def emnist_shape(split: str) -> tuple[tuple[int, ...], int]:
    """The shape of an image and the number of classes of one of EMNIST's splits.

    Raises:
        ValueError: there is no such split.
    """
    if split not in EMNIST_NAMES:
        raise ValueError(unknown("data.split", split, EMNIST_NAMES))
    return SHAPES["mnist"][0], len(EMNIST_NAMES[split])


@register("data", "qmnist")
def qmnist(root: str, download: bool, with_test: bool = True) -> Source:
    """QMNIST: MNIST's 60,000 training digits rebuilt, and 60,000 test digits (arXiv:1905.10498)."""
    files = [f"qmnist-{part}-{kind}" for part in ("train", "test") for kind in ("images-idx3-ubyte", "labels-idx2-int")]
    return _idx("qmnist", "QMNIST", root, download, DIGITS, files=files, with_test=with_test)


@register("data", "usps")
def usps(root: str, download: bool, with_test: bool = True) -> Source:
    """USPS: 7,291 + 2,007 digits from envelopes, 16×16 grey (Hull, 1994)."""
    paths = _files("usps", "USPS", "USPS", root, download, ("usps.bz2", "usps.t.bz2"))[: 1 + with_test]
    return _source("usps", DIGITS, [_usps(path) for path in paths], paths)


@register("data", "svhn")
def svhn(root: str, download: bool, with_test: bool = True) -> Source:
    """SVHN: 73,257 + 26,032 house numbers in colour, 32×32 (Netzer et al., 2011)."""
    from scipy.io import loadmat

    paths = _files("svhn", "SVHN", "SVHN", root, download, ("train_32x32.mat", "test_32x32.mat"))[: 1 + with_test]
    parts = []
    for path in paths:
        # Only the publisher's own file gets so far.
        found = loadmat(io.BytesIO(_known(path)), variable_names=["X", "y"])
        labels = found["y"].astype(np.int64).ravel()
        parts.append((np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)))
    return _source("svhn", DIGITS, parts, paths)


@register("data", "cifar10")
def cifar10(root: str, download: bool, with_test: bool = True) -> Source:
    """CIFAR-10: 50,000 + 10,000 colour photographs in 10 classes, 32×32 (Krizhevsky, 2009)."""
    files = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
    return _cifar(
        "cifar10", "CIFAR10", "cifar-10-batches-py", root, download, files, ("labels", "label_names"), with_test
    )


@register("data", "cifar100")
def cifar100(root: str, download: bool, with_test: bool = True) -> Source:
    """CIFAR-100: 50,000 + 10,000 colour photographs in 100 classes, 32×32 (Krizhevsky, 2009)."""
    files, keys = ("train", "test", "meta"), ("fine_labels", "fine_label_names")
    return _cifar("cifar100", "CIFAR100", "cifar-100-python", root, download, files, keys, with_test)


def _idx(
    name: str,
    class_name: str,
    root: str,
    download: bool,
    names: tuple[str, ...],
    *,
    files: Sequence[str] = MNIST_FILES,
    first_label: int = 0,
    turned: bool = False,
    with_test: bool = True,
) -> Source:
    """A set of four IDX files: training images and labels, test images and labels.

    Args:
        turned: whether rows and columns are exchanged.
        with_test: whether the last two are opened.
    """
    paths = _files(name, class_name, f"{class_name}/raw", root, download, files)
    parts = []
    for images_file, labels_file in (paths[:2], paths[2:])[: 1 + with_test]:
        images, labels = read_idx(images_file), read_idx(labels_file)
        if images.dtype != np.uint8 or images.ndim != 3:
            raise ValueError(f"data={name}: {format_path(images_file)} holds no grey images of bytes")
        if labels.ndim == 2 and labels.shape[1]:  # QMNIST's: the digit, then who wrote it and when
            labels = labels[:, 0]
        images = np.ascontiguousarray(images.transpose(0, 2, 1)) if turned else images
        parts.append((images[:, None], labels.astype(np.int64) - first_label))
    return _source(name, names, parts, paths[: 2 * len(parts) : 2])


def _cifar(
    name: str,
    class_name: str,
    folder: str,
    root: str,
    download: bool,
    files: Sequence[str],
    keys: tuple[str, str],
    with_test: bool,
) -> Source:
    """Batches of training images, one of test images, and the names of the classes."""
    paths = _files(name, class_name, folder, root, download, files)
    batches = []
    labels_key, names_key = keys
    if not with_test:
        del paths[-2]
    for path in paths:
        content = _known(path)
        try:
            found = read_pickle(content)
            if path is paths[-1]:
                names = names_of(found, names_key)
            else:
                batches.append((images_of(found), np.array(numbers_of(found, labels_key), np.int64)))
        except (Refused, OverflowError) as error:
            raise ValueError(f"data={name}: {format_path(path)} is refused: {error}") from None
    train = [np.concatenate(part) for part in zip(*batches[: -1 if with_test else None], strict=True)]
    parts = [(train[0], train[1]), batches[-1]][: 1 + with_test]
    return _source(name, tuple(map(make_printable, names)), parts, [paths[0], paths[-2]][: 1 + with_test])


def _usps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A line for each image: its label from 1, and its pixels as `number:value` with values in -1…1."""
    try:
        rows = [line.split() for line in decompressed(path, largest=LARGEST_FILE).decode("ascii").splitlines()]
        if {len(row) for row in rows} != {257}:
            raise ValueError("its lines are not a label and 256 values")
        values = np.array([[cell.rpartition(":")[2] for cell in row[1:]] for row in rows], np.float32)
        if not (np.abs(values) <= 1).all():
            raise ValueError("it has values outside -1…1")
        pixels = ((values + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 16, 16)
        return pixels, np.array([int(row[0]) - 1 for row in rows], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"data=usps: {format_path(path)} is refused: {make_printable(str(error))}") from None


def _known(path: Path) -> bytes:
    """A file's content, if it is the publisher's.

    Raises:
        ValueError: it is not.
    """
    try:
        content = read_regular(path, LARGEST_FILE)
    except Refused as error:
        raise ValueError(f"{format_path(path)} cannot be read: {error}") from None
    expected = CHECKSUMS[f"{path.parent.name}/{path.name}"]
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(
            f"{format_path(path)} is damaged, or not its publisher's: its MD5 is not {expected}. "
            "Remove it to have it fetched anew"
        )
    return content


def _source(
    name: str, class_names: tuple[str, ...], parts: Sequence[tuple[np.ndarray, np.ndarray]], paths: Sequence[Path]
) -> Source:
    """Training and test images with labels that fit: as many, of this set's size, each the number of a class.

    Args:
        parts: images (N, C, H, W) and labels (N,) of each split; without those of the test it is left empty.
        paths: the file of each, for messages.
    """
    shape = SHAPES["mnist" if name == "emnist" else name][0]
    splits = []
    for (images, labels), path in zip(parts, paths, strict=True):
        wrong = ""
        if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            wrong = f"images of {' × '.join(map(str, images.shape))}, expected N × {' × '.join(map(str, shape))}"
        elif labels.shape != (len(images),):
            wrong = f"{len(images)} images, and {len(labels)} labels beside them"
        elif not 0 <= labels.min() <= labels.max() < len(class_names):
            wrong = f"labels from {labels.min()} to {labels.max()}, expected 0 to {len(class_names) - 1}"
        if wrong:
            raise ValueError(f"data={name}: {format_path(path)} is damaged: it has {wrong}")
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels)))
    info = DatasetInfo(name, shape[0], shape[-1], class_names)
    return Source(info, splits[0], splits[1] if len(splits) > 1 else splits[0][torch.arange(0)])


def _files(name: str, class_name: str, where: str, root: str, download: bool, wanted: Sequence[str]) -> list[Path]:
    """Where a set's files are, fetched first if they are not there and may be.

    Raises:
        ValueError: they cannot be had; the message says where they belong.
    """
    base = Path(root).expanduser()
    folder = base / where
    reason = "data.download=false forbids to fetch it"
    # Only IDX is read compressed.
    find = find_idx if where.endswith("raw") else _find
    if None in (found := [find(folder, file) for file in wanted]) and download:
        try:
            parts = ("train", "test") if class_name == "QMNIST" else (None,)
            for part in parts:
                fetch(class_name, base, folder, wanted, part)
            reason = "what was downloaded does not hold them"
        except (RuntimeError, OSError, ValueError, EOFError) as error:
            reason = f"downloading it failed ({_first_line(error)})"
        found = [find(folder, file) for file in wanted]
    missing = [file for file, path in zip(wanted, found, strict=True) if path is None]
    if not missing:
        return [path for path in found if path is not None]
    raise ValueError(
        f"data={name} is not in {folder.absolute()} and {reason}. "
        f"Put torchvision's {class_name} files there ({missing[0]} is missing), or name the folder that holds "
        f"{where.split('/')[0]} with data.root=DIR or the environment variable CNNBENCH_DATA"
    )


def _find(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
