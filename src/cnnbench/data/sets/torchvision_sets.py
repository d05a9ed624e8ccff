"""The classic datasets of torchvision, read from its files and, if allowed, downloaded from its addresses.

torchvision itself would unpickle CIFAR, trust the sizes in headers, and take a second to import.
"""

import bz2
import io
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cnnbench.config.keys import Options, key
from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.files.archives import read_up_to
from cnnbench.data.files.cifar_files import LARGEST_FILE, name_file_in_errors, read_batch, read_names, read_published
from cnnbench.data.files.downloads import download as download_files
from cnnbench.data.files.idx import read_idx
from cnnbench.registry import register
from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path, get_first_line, make_printable

Arrays = tuple[np.ndarray, np.ndarray]  # images, uint8 (N, C, H, W), and labels, int64 (N,)

DIGITS = tuple(string.digits)
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CHARACTERS = tuple(sorted(string.digits + string.ascii_letters))
DISTINCT = tuple(one for one in CHARACTERS if one not in set("cijklmopsuvwxyz"))  # from their capitals
EMNIST_CLASSES = {
    "balanced": DISTINCT,
    "byclass": CHARACTERS,
    "bymerge": DISTINCT,
    "digits": DIGITS,
    "letters": tuple(string.ascii_lowercase),
    "mnist": DIGITS,
}
# MD5 of these files, as in torchvision.
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


def _get_checksum(path: Path) -> str:
    return CHECKSUMS[f"{path.parent.name}/{path.name}"]


def _read_idx_pair(paths: Sequence[Path], *, first_label: int = 0, transposed: bool = False) -> Arrays:
    """The images in one file and the labels in another."""
    images, labels = map(read_idx, paths)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"{format_path(paths[0])} holds no grey images of bytes")
    if labels.ndim == 2 and labels.shape[1]:  # QMNIST's labels: the digit, then who wrote it and when
        labels = labels[:, 0]
    images = np.ascontiguousarray(images.transpose(0, 2, 1)) if transposed else images
    return images[:, None], labels.astype(np.int64) - first_label


def _read_usps(paths: Sequence[Path]) -> Arrays:
    """From a line for each image: its label, from 1, and its pixels as `number:value`, with values in -1…1."""
    with name_file_in_errors(paths[0]):
        try:
            check_regular(paths[0], LARGEST_FILE)
            with bz2.open(paths[0]) as packed:
                content = read_up_to(packed, LARGEST_FILE + 1)
            rows = [line.split() for line in content.decode("ascii").splitlines()]
            if len(content) > LARGEST_FILE or {len(row) for row in rows} != {257}:
                raise Refused("its lines are not a label and 256 values")
            values = np.array([[cell.rpartition(":")[2] for cell in row[1:]] for row in rows], np.float32)
            labels = np.array([int(row[0]) - 1 for row in rows], np.int64)
        except (ValueError, OverflowError, OSError, EOFError) as error:
            raise Refused(make_printable(str(error))) from None
        if not (np.abs(values) <= 1).all():
            raise Refused("it has values outside -1…1")
    return ((values + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 16, 16), labels


def _read_svhn(paths: Sequence[Path]) -> Arrays:
    from scipy.io import loadmat

    # Only the publisher's own file reaches scipy's reader, which is not made for untrusted ones.
    found = loadmat(io.BytesIO(read_published(paths[0], _get_checksum(paths[0]))), variable_names=["X", "y"])
    labels = found["y"].astype(np.int64).ravel()
    return np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)


def _read_cifar(paths: Sequence[Path], *, key: str) -> Arrays:
    batches = [read_batch(path, _get_checksum(path), key) for path in paths]
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    return images, labels


@dataclass(frozen=True)
class Published:
    """A dataset of torchvision."""

    name: str  # in a config
    class_name: str  # in `torchvision.datasets`
    folder: str  # of its files, below `data.root`
    train: tuple[str, ...]  # files, in the order that `read` takes
    test: tuple[str, ...]
    shape: tuple[int, ...]  # of one image, (C, H, W)
    read: Callable[[Sequence[Path]], Arrays]
    class_names: tuple[str, ...] = DIGITS
    names: tuple[str, str] | None = None  # the file that holds the class names instead, and their key in it
    train_images: int = 60_000

    def load(self, root: str, download: bool, with_test: bool = True) -> Source:
        """Read the images; if not `with_test`, no test file is opened, and the test split is empty."""
        paths = self._find(root, download)
        splits, class_names = [], self.class_names
        try:
            if self.names:
                file, key = self.names
                class_names = read_names(paths[file], _get_checksum(paths[file]), key)
            for files in (self.train, self.test)[: 1 + with_test]:
                images, labels = self.read([paths[file] for file in files])
                self._check(images, labels, len(class_names), paths[files[0]])
                splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels)))
        except ValueError as error:
            raise ValueError(f"data={self.name}: {error}") from None
        info = DatasetInfo(self.name, self.shape[0], self.shape[-1], class_names)
        return Source(info, splits[0], splits[1] if with_test else splits[0][torch.arange(0)])

    def _check(self, images: np.ndarray, labels: np.ndarray, num_classes: int, path: Path) -> None:
        problem = ""
        if images.dtype != np.uint8 or images.shape[1:] != self.shape or not len(images):
            problem = f"images of {' × '.join(map(str, images.shape))}, expected N × {' × '.join(map(str, self.shape))}"
        elif labels.shape != (len(images),):
            problem = f"{len(images)} images, but {len(labels)} labels"
        elif not 0 <= labels.min() <= labels.max() < num_classes:
            problem = f"labels from {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1}"
        if problem:
            raise ValueError(f"{format_path(path)} is damaged: it has {problem}")

    def _find(self, root: str, download: bool) -> dict[str, Path]:
        """The dataset's files by name, downloaded first if they are missing and that is allowed."""
        base = Path(root).expanduser()
        folder = base / self.folder
        wanted = (*self.train, *self.test, *(self.names or ())[:1])
        reason = "data.download=false forbids downloading it"
        if download and len(_find_files(folder, wanted)) < len(wanted):
            reason = "the download does not hold them"
            try:
                download_files(self.class_name, base, folder, wanted)
            except (RuntimeError, OSError, ValueError, EOFError) as error:
                reason = f"downloading it failed ({get_first_line(error)[:200]})"
        found = _find_files(folder, wanted)
        if missing := [name for name in wanted if name not in found]:
            raise ValueError(
                f"data={self.name} is not in {folder.absolute()} and {reason}. Put torchvision's {self.class_name} "
                f"files there ({missing[0]} is missing), or name the folder that holds {self.folder.split('/')[0]} "
                "with data.root=DIR or the environment variable CNNBENCH_DATA"
            )
        return found


def _find_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The existing files by name; an IDX file may be compressed."""
    found: dict[str, Path] = {}
    for name in names:
        packed = [folder / f"{name}.gz"] if "-idx" in name else []
        for path in filter(Path.is_file, [*packed, folder / name]):
            found[name] = path
    return found


def _make_mnist_like(
    name: str,
    class_name: str,
    class_names: tuple[str, ...] = DIGITS,
    *,
    splits: Sequence[str] = ("train", "t10k"),
    labels: str = "labels-idx1-ubyte",
) -> Published:
    train, test = ((f"{split}-images-idx3-ubyte", f"{split}-{labels}") for split in splits)
    return Published(name, class_name, f"{class_name}/raw", train, test, (1, 28, 28), _read_idx_pair, class_names)


SETS = (
    # 60,000 + 10,000 handwritten digits (LeCun, Cortes and Burges, 1998)
    _make_mnist_like("mnist", "MNIST"),
    # 60,000 + 10,000 articles of clothing (arXiv:1708.07747)
    _make_mnist_like("fashion_mnist", "FashionMNIST", FASHION),
    # 60,000 + 10,000 cursive hiragana (arXiv:1812.01718)
    _make_mnist_like("kmnist", "KMNIST", HIRAGANA),
    # MNIST's 60,000 training digits rebuilt, and 60,000 test digits (arXiv:1905.10498)
    _make_mnist_like("qmnist", "QMNIST", splits=("qmnist-train", "qmnist-test"), labels="labels-idx2-int"),
    # 7,291 + 2,007 digits from envelopes (Hull, 1994)
    Published("usps", "USPS", "USPS", ("usps.bz2",), ("usps.t.bz2",), (1, 16, 16), _read_usps, train_images=7_291),
    # 73,257 + 26,032 house numbers (Netzer et al., 2011)
    Published(
        "svhn", "SVHN", "SVHN", ("train_32x32.mat",), ("test_32x32.mat",), (3, 32, 32), _read_svhn,
        train_images=73_257,
    ),
    # 50,000 + 10,000 photographs in 10 and in 100 classes (Krizhevsky, 2009)
    Published(
        "cifar10", "CIFAR10", "cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",), (3, 32, 32), partial(_read_cifar, key="labels"), names=("batches.meta", "label_names"),
        train_images=50_000,
    ),
    Published(
        "cifar100", "CIFAR100", "cifar-100-python", ("train",),
        ("test",), (3, 32, 32), partial(_read_cifar, key="fine_labels"), names=("meta", "fine_label_names"),
        train_images=50_000,
    ),
)  # fmt: skip

# A part of this table can declare no options: `config/declared.py` reads those of decorated parts only.
for _set in SETS:
    _classes = 100 if _set.name == "cifar100" else 10
    register("data", _set.name, train_images=_set.train_images)(_set.load)
    register("data_shape", _set.name)(lambda shape=_set.shape, classes=_classes: (shape, classes))


class EmnistOptions(Options):
    """What `configs/data/emnist.yaml` sets."""

    split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = key(
        "Which of its splits: balanced (47 classes), byclass (62), bymerge (47), digits, letters (26) or mnist"
    )


@register("data", "emnist")
def emnist(options: EmnistOptions, root: str, download: bool, with_test: bool = True) -> Source:
    """EMNIST: handwritten letters and digits, 28×28 grey (arXiv:1702.05373)."""
    split = options.split
    splits = (f"emnist-{split}-train", f"emnist-{split}-test")
    # EMNIST's images are transposed, and the labels of `letters` count from 1.
    read = partial(_read_idx_pair, first_label=int(split == "letters"), transposed=True)
    published = replace(_make_mnist_like("emnist", "EMNIST", EMNIST_CLASSES[split], splits=splits), read=read)
    return published.load(root, download, with_test)


@register("data_shape", "emnist")
def emnist_shape(options: EmnistOptions) -> tuple[tuple[int, ...], int]:
    """The shape of an image and the number of classes of one of EMNIST's splits."""
    return (1, 28, 28), len(EMNIST_CLASSES[options.split])
