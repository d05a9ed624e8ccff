"""CIFAR's own files, which are pickles: read without anything of theirs being run.

The opcodes are looked at first, and only those that plain lists, dicts, text and one array need are accepted, in
numbers that cannot exhaust anything. The `Unpickler` then gives a stand-in for each of the few names that numpy's
arrays are pickled with, and refuses every other name: no class or function of a module is ever reached, numpy's own
neither. The array is made of the bytes that remain, once their number is known to be right.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnbench.storage.regular import Refused

SHAPE = (3, 32, 32)
MOST_OPCODES = 2_000_000  # CIFAR-100's training images take 450,000
MOST_OF = {"containers": 1000, "calls": 50}
CONTAINERS = {"EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
CALLS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
PLAIN = set(
    re.findall(
        r"\w+",
        """PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
        STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE
        BINUNICODE8 APPEND APPENDS SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET""",
    )
)
# numpy's names, before and since its version 2, and how Python 3 writes bytes for Python 2.
NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "class",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",
}


class _Name:
    """Stands for what a file calls by its name. Calling it makes a `_Made` and nothing else."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, *arguments: Any) -> "_Made":
        return _Made(self.kind, arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a name")


class _Made:
    """What would have been made: the arguments and the state, unused."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        """A stand-in for one of the accepted names."""
        kind = NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if kind is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not accepted")
        return _Name(kind)


def read_pickle(content: bytes) -> dict[str, Any]:
    """The dict of a CIFAR file: by key lists, numbers, text (bytes, where Python 2 wrote it), or a stand-in.

    Raises:
        Refused: it holds more than plain data and arrays, is no dict, or is cut short.
    """
    _check_opcodes(content)
    try:
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise Refused(f"it cannot be read: {error or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise Refused("it is no dict")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}


def _check_opcodes(content: bytes) -> None:
    counts = dict.fromkeys(MOST_OF, 0)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            name = opcode.name
            if name in CONTAINERS:
                counts["containers"] += 1
            elif name in CALLS:
                counts["calls"] += 1
            elif name not in PLAIN:
                raise Refused(f"its pickle uses {name}: accepted are plain data and arrays")
            elif name.endswith("PUT") and isinstance(argument, int) and argument > MOST_OPCODES:
                raise Refused(f"its pickle remembers number {argument}")  # memory for all before it would be taken
            if number > MOST_OPCODES:
                raise Refused(f"its pickle has more than {MOST_OPCODES:,} opcodes")
    except (ValueError, UnicodeDecodeError, OverflowError, IndexError) as error:
        raise Refused(f"it is no whole pickle: {error}") from None
    for what, most in MOST_OF.items():
        if counts[what] > most:
            raise Refused(f"its pickle has {counts[what]} {what}: accepted are up to {most}")


def images_of(found: dict[str, Any]) -> np.ndarray:
    """The images of a batch: uint8, (N, 3, 32, 32).

    Raises:
        Refused: there is no array of bytes whose length is N · 3072.
    """
    array = found.get("data")
    state = array.state if isinstance(array, _Made) and array.kind == "array" else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise Refused("it has no array of images under 'data'")
    _, shape, kind, is_fortran, values = state
    named = kind.arguments[0] if isinstance(kind, _Made) and kind.kind == "dtype" and kind.arguments else None
    if named not in ("u1", b"u1", "|u1", "uint8") or is_fortran:
        raise Refused("its images are no rows of bytes")
    if isinstance(values, _Made) and values.kind == "bytes":
        values = _latin(values.arguments)
    size = int(np.prod(SHAPE))
    is_shape = isinstance(shape, tuple) and len(shape) == 2 and all(type(side) is int for side in shape)
    if not is_shape or shape[1] != size or not isinstance(values, bytes) or len(values) != shape[0] * size:
        raise Refused(f"its images are not N rows of {size} bytes")
    return np.frombuffer(bytearray(values), np.uint8).reshape(-1, *SHAPE)


def _latin(arguments: Sequence[Any]) -> bytes | None:
    if len(arguments) == 2 and isinstance(arguments[0], str) and re.fullmatch("latin-?1", str(arguments[1])):
        return arguments[0].encode("latin-1", "replace")
    return None


def numbers_of(found: dict[str, Any], key: str) -> list[int]:
    """A list of whole numbers.

    Raises:
        Refused: there is none under that key.
    """
    values = found.get(key)
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise Refused(f"it has no whole numbers under {key!r}")
    return values


def names_of(found: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of text.

    Raises:
        Refused: there is none under that key.
    """
    values = found.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str | bytes) for value in values):
        raise Refused(f"it has no names under {key!r}")
    return tuple(value.decode("latin-1") if isinstance(value, bytes) else value for value in values)
