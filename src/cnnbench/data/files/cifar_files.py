"""CIFAR's files, which are pickles: only the publisher's own are unpickled, and only to plain data and one array."""

import _codecs
import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import format_path, make_printable

LARGEST_FILE = 2**28  # bytes; SVHN's training images have 1.9e8
SHAPE = (3, 32, 32)
_reconstruct = np.empty(0).__reduce__()[0]
# A file must have its publisher's MD5. MD5 can be forged, so the unpickler also accepts no names but those in a pickled
# numpy array: a forged file reaches no other class or function.
ACCEPTED = {
    # Before and since numpy 2.
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # Python 3 pickles bytes for Python 2 as a call of this function.
    ("_codecs", "encode"): _codecs.encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """An accepted object; imports no module."""
        try:
            return ACCEPTED[module, name]
        except (KeyError, TypeError):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed") from None


def read_published(path: Path, md5: str) -> bytes:
    """A file's content.

    Raises:
        ValueError: its hash differs, or it cannot be read.
    """
    with name_file_in_errors(path):
        content = read_regular(path, LARGEST_FILE)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise Refused(
                f"it is damaged, or not its publisher's: its MD5 is not {md5}. Remove it to download it again"
            )
        return content


def read_batch(path: Path, md5: str, labels_key: str) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 (N, 3, 32, 32), and labels, int64 (N,), of one file.

    Raises:
        ValueError: it is not the publisher's, or holds something else.
    """
    found = _read_pickle(path, md5)
    images, labels = found.get("data"), found.get(labels_key)
    with name_file_in_errors(path):
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (len(images), 3072):
            raise Refused("it has no images, rows of 3,072 bytes, under 'data'")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise Refused(f"it has no whole numbers under {labels_key!r}")
    return images.reshape(-1, *SHAPE), np.array(labels, np.int64)


def read_names(path: Path, md5: str, key: str) -> tuple[str, ...]:
    """The names of the classes in one file, with the errors of `read_batch`."""
    names = _read_pickle(path, md5).get(key)
    with name_file_in_errors(path):
        if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
            raise Refused(f"it has no names under {key!r}")
    return tuple(make_printable(_decode_text(name)) for name in names)


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Turn a refusal into an error that names the file."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{format_path(path)} is refused: {error}") from None


def _read_pickle(path: Path, md5: str) -> dict[str, Any]:
    content = io.BytesIO(read_published(path, md5))
    with name_file_in_errors(path):
        try:
            found = _ArrayUnpickler(content, encoding="bytes").load()
        except Exception as error:  # a damaged pickle raises nearly anything
            raise Refused(f"it cannot be read: {error or type(error).__name__}") from None
        if not isinstance(found, dict):
            raise Refused("it is not a dict")
    return {_decode_text(key): value for key, value in found.items()}


def _decode_text(value: Any) -> str:
    # Python 2 pickled text as bytes.
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
