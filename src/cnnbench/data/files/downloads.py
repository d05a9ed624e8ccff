"""The files of torchvision's datasets, fetched by torchvision from where it knows them to be, and unpacked by us.

torchvision itself takes a second to import, and is only needed to fetch.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnbench.data.files.archives import decompress, unpack

TIMEOUT_SECONDS = 30


def fetch(class_name: str, base: Path, folder: Path, wanted: Sequence[str], part: str | None = None) -> None:
    """Download a dataset's archives, compared with the hashes that torchvision has of them, and unpack them.

    Args:
        class_name: in `torchvision.datasets`.
        base: the folder of all datasets; folders that a failed download leaves empty there are removed.
        folder: where the dataset's files belong.
        wanted: the names of those files.
        part: a key of the class's own table of files, where it has one.

    Raises:
        OSError, RuntimeError, ValueError: it could not be fetched, or the archive is refused.
    """
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, class_name)
    with _tidy(base), _socket_timeout():
        folder.mkdir(parents=True, exist_ok=True)
        if class_name == "EMNIST":
            # One archive of all splits, each file in it compressed once more.
            archive = _download([dataset.url], folder, Path(dataset.url).name, dataset.md5)
            for packed in unpack(archive, folder, only=[f"{name}.gz" for name in wanted]):
                _unzip(packed, folder)
        elif class_name.startswith("CIFAR"):
            archive = _download([dataset.url], base, dataset.filename, dataset.tgz_md5)
            unpack(archive, base)
        elif class_name in ("USPS", "SVHN"):
            for url, name, md5 in (dataset.split_list[key] for key in ("train", "test")):
                _download([url], folder, name, md5)
        else:
            resources = dataset.resources if part is None else dataset.resources[part]
            for name, md5 in resources:
                urls = [name] if "://" in name else [f"{mirror}{name}" for mirror in dataset.mirrors]
                _unzip(_download(urls, folder, Path(name).name, md5), folder)


def _download(urls: Sequence[str], folder: Path, name: str, md5: str) -> Path:
    """Fetch a file from the first place that has it."""
    from torchvision.datasets.utils import download_url

    problem: Exception = RuntimeError("there is no place to fetch it from")
    for url in urls:
        try:
            download_url(url, folder, filename=name, md5=md5)
            return folder / name
        except (RuntimeError, OSError) as error:
            problem = error
            # What came of it is not what was wanted.
            (folder / name).unlink(missing_ok=True)
    raise problem


def _unzip(packed: Path, folder: Path) -> None:
    decompress(packed, folder / packed.name.removesuffix(packed.suffix))


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
def _socket_timeout() -> Iterator[Any]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
