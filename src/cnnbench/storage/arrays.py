"""Numpy arrays in npz files, without pickle and within bounds."""

import errno
import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.storage.atomic import write_bytes
from cnnbench.storage.regular import read_bytes, refuse_damaged

LARGEST_ARRAYS = 2**30  # bytes of all arrays of a file together
MOST_ARRAYS = 100
LARGEST_HEADER = 2**24  # bytes, of a safetensors file
# What zipfile, zlib and numpy's parser of headers raise for damaged bytes.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error, SyntaxError, ValueError, LookupError, TypeError,
    ArithmeticError, EOFError, OSError, RuntimeError, MemoryError,
)  # fmt: skip


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays atomically, compressed.

    Raises:
        ValueError: an array holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:  # only pickle could read it
            raise ValueError(f"array {name!r} holds Python objects")
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file.

    Raises:
        ValueError: not an npz file, an array that needs pickle, or more than `LARGEST_ARRAYS` bytes of arrays.
    """
    content = read_bytes(path, LARGEST_ARRAYS)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return dict(_read_members(archive))
    except _DAMAGED as error:
        refuse_damaged(path, error)


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: type and shape of each tensor, and `__metadata__`. Nothing else is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a safetensors file.
    """
    if not path.is_file():  # opening a FIFO would block
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with path.open("rb") as file:
            # Eight bytes of length, then JSON.
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= LARGEST_HEADER else None
    except (OSError, ValueError, RecursionError, struct.error) as error:
        refuse_damaged(path, error)
    if not isinstance(header, dict):
        refuse_damaged(path, "its header is not a JSON object, or too large")
    return header


def _read_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, np.ndarray]]:
    members = archive.infolist()
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"it has {len(members)} arrays: the limit is {MOST_ARRAYS}")
    if (size := sum(member.file_size for member in members)) > LARGEST_ARRAYS:
        raise ValueError(f"its arrays have {size:,} bytes: the limit is {LARGEST_ARRAYS:,}")
    for member in members:
        with archive.open(member) as file:
            # numpy's own reader would allocate whatever the header says; here its shape must match the member's size.
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read_header:
                raise ValueError(f"{member.filename} has version {version}: must be 1.0 or 2.0")
            shape, fortran, kind = read_header[version](file)
            if kind.hasobject or kind.names:
                raise ValueError(f"{member.filename} holds objects, which only pickle could read (allow_pickle)")
            count = math.prod(shape)
            if min(shape, default=0) < 0 or count * kind.itemsize != member.file_size - file.tell():
                raise ValueError(f"{member.filename} does not have the size that its header states")
            values = np.frombuffer(bytearray(file.read()), kind, count)
            yield member.filename.removesuffix(".npy"), values.reshape(shape, order="F" if fortran else "C")
