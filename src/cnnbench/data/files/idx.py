"""IDX, the format of MNIST and its family: two zero bytes, a type, the number of axes, their sizes, the values.

Sizes and values are big-endian.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnbench.data.files.archives import read_up_to
from cnnbench.storage.regular import Refused, check_regular
from cnnbench.storage.text import format_path

TYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
LARGEST = 2**30  # bytes of values; the largest known, EMNIST's byclass, has half of it
MOST_AXES = 3


def read_idx(path: Path) -> np.ndarray:
    """The values of an IDX file, compressed if it ends with .gz: uint8, or int32 in this machine's byte order.

    Raises:
        ValueError: it is truncated, has more after its end, or is not an IDX file of bytes or whole numbers.
    """
    try:
        check_regular(path, 2 * LARGEST)
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return _read_values(file)  # type: ignore[arg-type]
    except (Refused, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{format_path(path)} is not a valid IDX file: {error}") from None


def _read_values(file: IO[bytes]) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= MOST_AXES:
        raise Refused("it does not start as one of bytes or 32-bit whole numbers with 1 to 3 axes")
    kind, sizes = TYPES[head[2]], file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise Refused("it ends within its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    expected = math.prod(shape) * kind.itemsize
    header = f"its header says {' × '.join(map(str, shape))} values of {kind.itemsize} byte(s)"
    if expected > LARGEST:
        raise Refused(f"{header}: the limit is {LARGEST:,} bytes")
    # Memory is taken for the values in the file, not for those that its header promises.
    content = read_up_to(file, expected + 1)
    if len(content) != expected:
        raise Refused(f"{header}, but {'more' if len(content) > expected else f'only {len(content):,} bytes'} follow")
    return np.frombuffer(content, kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
