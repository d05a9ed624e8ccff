"""The classic sets that torchvision knows, read from `root` or, if allowed, downloaded to it by torchvision."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.registry import register, unknown

EMNIST_CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
DIGITS = tuple("0123456789")
DOWNLOAD_TIMEOUT_SECONDS = 30
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
def mnist(root: str, download: bool) -> Source:
    """MNIST: 60,000 + 10,000 handwritten digits, 28×28 grey (LeCun, Cortes and Burges, 1998)."""
    return _idx("mnist", "MNIST", root, download, DIGITS)


@register("data", "fashion_mnist")
def fashion_mnist(root: str, download: bool) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28×28 grey (arXiv:1708.07747)."""
    return _idx("fashion_mnist", "FashionMNIST", root, download, FASHION)


@register("data", "kmnist")
def kmnist(root: str, download: bool) -> Source:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive hiragana, 28×28 grey (arXiv:1812.01718)."""
    return _idx("kmnist", "KMNIST", root, download, KMNIST)


@register("data", "emnist")
def emnist(root: str, download: bool, split: str) -> Source:
    """EMNIST: handwritten letters and digits, 28×28 grey (arXiv:1702.05373).

    Args:
        split: balanced (47 classes), byclass (62), bymerge (47), digits, letters (26) or mnist.
    """
    emnist_shape(split)
    train, test = (
        _read("emnist", root, download, "EMNIST/raw", "EMNIST", split=split, train=train) for train in (True, False)
    )
    # `letters` counts from 1 and names an empty class 0.
    shift = 1 if split == "letters" else 0
    names = tuple(str(name) for name in train.classes)[shift:]
    images = [raw.data.transpose(-1, -2).contiguous().unsqueeze(1) for raw in (train, test)]
    return _source("emnist", names, images[0], train.targets - shift, images[1], test.targets - shift)


@register("data_shape", "emnist")
def emnist_shape(split: str) -> tuple[tuple[int, ...], int]:
    """The shape of an image and the number of classes of one of EMNIST's splits.

    Raises:
        ValueError: there is no such split.
    """
    if split not in EMNIST_CLASSES:
        raise ValueError(unknown("data.split", split, EMNIST_CLASSES))
    return (1, 28, 28), EMNIST_CLASSES[split]


@register("data", "qmnist")
def qmnist(root: str, download: bool) -> Source:
    """QMNIST: MNIST's 60,000 training digits rebuilt, and 60,000 test digits (arXiv:1905.10498)."""
    train, test = (_read("qmnist", root, download, "QMNIST/raw", "QMNIST", what=what) for what in ("train", "test"))
    labels = [raw.targets[:, 0].long() for raw in (train, test)]
    return _source("qmnist", DIGITS, train.data.unsqueeze(1), labels[0], test.data.unsqueeze(1), labels[1])


@register("data", "usps")
def usps(root: str, download: bool) -> Source:
    """USPS: 7,291 + 2,007 digits from envelopes, 16×16 grey (Hull, 1994)."""
    splits = [_read("usps", root, download, "USPS", "USPS", train=train) for train in (True, False)]
    arrays = [torch.from_numpy(np.ascontiguousarray(raw.data)).unsqueeze(1) for raw in splits]
    return _source("usps", DIGITS, arrays[0], splits[0].targets, arrays[1], splits[1].targets)


@register("data", "svhn")
def svhn(root: str, download: bool) -> Source:
    """SVHN: 73,257 + 26,032 house numbers in colour, 32×32 (Netzer et al., 2011)."""
    splits = [_read("svhn", root, download, "SVHN", "SVHN", split=split) for split in ("train", "test")]
    arrays = [torch.from_numpy(np.ascontiguousarray(raw.data)) for raw in splits]
    return _source("svhn", DIGITS, arrays[0], splits[0].labels, arrays[1], splits[1].labels)


@register("data", "cifar10")
def cifar10(root: str, download: bool) -> Source:
    """CIFAR-10: 50,000 + 10,000 colour photographs in 10 classes, 32×32 (Krizhevsky, 2009)."""
    return _cifar("cifar10", "CIFAR10", "cifar-10-batches-py", root, download)


@register("data", "cifar100")
def cifar100(root: str, download: bool) -> Source:
    """CIFAR-100: 50,000 + 10,000 colour photographs in 100 classes, 32×32 (Krizhevsky, 2009)."""
    return _cifar("cifar100", "CIFAR100", "cifar-100-python", root, download)


def _idx(name: str, class_name: str, root: str, download: bool, names: tuple[str, ...]) -> Source:
    train, test = (_read(name, root, download, f"{class_name}/raw", class_name, train=train) for train in (True, False))
    return _source(name, names, train.data.unsqueeze(1), train.targets, test.data.unsqueeze(1), test.targets)


def _cifar(name: str, class_name: str, folder: str, root: str, download: bool) -> Source:
    splits = [_read(name, root, download, folder, class_name, train=train) for train in (True, False)]
    arrays = [torch.from_numpy(np.ascontiguousarray(raw.data.transpose(0, 3, 1, 2))) for raw in splits]
    return _source(name, tuple(splits[0].classes), arrays[0], splits[0].targets, arrays[1], splits[1].targets)


def _source(
    name: str, class_names: tuple[str, ...], train: Tensor, train_labels: Any, test: Tensor, test_labels: Any
) -> Source:
    info = DatasetInfo(name, train.shape[1], train.shape[-1], class_names)
    labels = [torch.as_tensor(values, dtype=torch.int64) for values in (train_labels, test_labels)]
    return Source(info, Split(train, labels[0]), Split(test, labels[1]))


def _read(name: str, root: str, download: bool, where: str, class_name: str, **arguments: Any) -> Any:
    """One split as torchvision's dataset object, with one clear message where it cannot be had."""
    import torchvision.datasets

    base = Path(root).expanduser()
    # USPS and SVHN put their files straight into the root they are given; a folder of their own keeps it tidy.
    folder = base / where if where in ("USPS", "SVHN") else base
    dataset: Callable[..., Any] = getattr(torchvision.datasets, class_name)
    try:
        with _tidy(base), _socket_timeout():
            if folder != base:
                folder.mkdir(parents=True, exist_ok=True)
            return dataset(folder, download=download, **arguments)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        tried = "downloading it failed" if download else "data.download=false forbids to fetch it"
        raise ValueError(
            f"data={name} is not in {(base / where).absolute()} and {tried} ({_first_line(error)}). "
            f"Put torchvision's {class_name} files there, or name the folder that holds {where.split('/')[0]} "
            "with data.root=DIR or the environment variable CNNBENCH_DATA"
        ) from None


@contextlib.contextmanager
def _tidy(base: Path) -> Iterator[None]:
    """Remove the empty folders that a failed download leaves behind."""
    first_new = base
    while not first_new.parent.exists():
        first_new = first_new.parent
    known = {Path(folder) for folder, _, _ in os.walk(base)} if base.exists() else set()
    try:
        yield
    except BaseException:
        for folder, _, _ in os.walk(first_new, topdown=False):
            if Path(folder) not in known:
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        raise


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
