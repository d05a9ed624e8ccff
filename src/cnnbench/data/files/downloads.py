"""Download the files of torchvision's datasets from the addresses in torchvision, and unpack them."""

import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnbench.data.files.archives import decompress, unpack

TIMEOUT_SECONDS = 10  # without a byte, of each address of a host


def download(class_name: str, base: Path, folder: Path, wanted: Sequence[str]) -> None:
    """Download a dataset's archives, check them against torchvision's hashes, and unpack them.

    Args:
        class_name: in `torchvision.datasets`.
        base: the folder of all datasets.
        folder: that of the dataset's files; removed with its parents if it is new and stays empty.
        wanted: the names of these files.

    Raises:
        OSError, RuntimeError, ValueError: a download fails, or an archive is refused.
    """
    import torchvision.datasets  # it takes a second, and only a download needs it

    dataset = getattr(torchvision.datasets, class_name)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _set_socket_timeout():
            if class_name == "EMNIST":
                # One archive of all splits, and each file in it is compressed once more.
                archive = _download([dataset.url], folder, Path(dataset.url).name, dataset.md5)
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    for packed in unpack(archive, Path(scratch), only=[f"{name}.gz" for name in wanted]):
                        decompress(packed, folder / packed.stem)
            elif class_name.startswith("CIFAR"):
                unpack(_download([dataset.url], base, dataset.filename, dataset.tgz_md5), base)
            elif class_name in ("USPS", "SVHN"):
                for url, name, md5 in (dataset.split_list[key] for key in ("train", "test")):
                    _download([url], folder, name, md5)
            else:
                resources = dataset.resources
                if class_name == "QMNIST":  # a dict by split
                    resources = [*resources["train"], *resources["test"]]
                for name, md5 in resources:
                    urls = [name] if "://" in name else [f"{mirror}{name}" for mirror in dataset.mirrors]
                    packed = _download(urls, folder, Path(name).name, md5)
                    decompress(packed, folder / packed.stem)
    finally:
        for path in new:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _download(urls: Sequence[str], folder: Path, name: str, md5: str) -> Path:
    """Fetch a file from the first address that has it."""
    from torchvision.datasets.utils import download_url

    problem: Exception = RuntimeError("no address is known")
    for url in urls:
        try:
            download_url(url, folder, filename=name, md5=md5)
            return folder / name
        except (RuntimeError, OSError) as error:
            problem = error
            (folder / name).unlink(missing_ok=True)  # perhaps an error page or a partial file
            reason = getattr(error, "reason", None)
            if isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_AGAIN:
                break  # no name server answers, and asking for another host takes as long again
    raise problem


@contextmanager
def _set_socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
