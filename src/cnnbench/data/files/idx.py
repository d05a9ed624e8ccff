"""IDX, the format of MNIST and its family: two zero bytes, a type, the number of axes, their sizes, the values.

Sizes and values are big-endian. A plain file's length must be what its header says before a value is read; of a
compressed one no more is unpacked than the header says.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path

TYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
LARGEST = 2**30  # bytes of values; the largest known, EMNIST's byclass, has half of it
MOST_AXES = 3


def find_idx(folder: Path, name: str) -> Path | None:
    """The file of that name, or the compressed one beside it."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """The values of an IDX file, compressed or not: uint8, or int32 in this machine's order.

    Raises:
        ValueError: it is not whole, has more after its end, or is no IDX file of bytes or whole numbers; the message
            names it.
    """
    try:
        length = check_regular(path, 2 * LARGEST)
        with open(path, "rb") as raw:
            if path.suffix != ".gz":
                return _values(raw, length)
            with gzip.GzipFile(fileobj=raw) as file:
                return _values(file, None)  # type: ignore[arg-type]
    except (Refused, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{format_path(path)} is no whole IDX file: {error}") from None


def _values(file: BinaryIO, length: int | None) -> np.ndarray:
    """Read header and values; of a plain file the length is known before any value is read."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= MOST_AXES:
        raise Refused("it does not begin as one of bytes or 32-bit whole numbers with 1 to 3 axes")
    kind, axes = TYPES[head[2]], head[3]
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise Refused("it ends within its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    expected = math.prod(shape) * kind.itemsize
    said = f"its header says {' × '.join(map(str, shape))} values of {kind.itemsize} byte(s)"
    if expected > LARGEST:
        raise Refused(f"{said}: accepted are up to {LARGEST:,} bytes")
    if length is not None and length != 4 + 4 * axes + expected:
        raise Refused(f"{said}, which does not fit its {length:,} bytes")
    content = bytearray()
    while len(content) <= expected and (part := file.read(min(2**24, expected + 1 - len(content)))):
        content += part
    if len(content) != expected:
        raise Refused(f"{said}, but {'more' if len(content) > expected else f'only {len(content):,} bytes'} follow")
    values = np.frombuffer(content, kind).reshape(shape)
    return values.astype(np.int32) if kind.itemsize > 1 else values
