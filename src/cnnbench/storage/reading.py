"""JSON, YAML, CSV and npz as plain data and nothing else, from files that anybody may have written.

Each reader takes only a regular file, no symbolic link, and bounds what it allocates before it does. What it does not
accept is a `ValueError` that begins with the file's name.

A sealed YAML file ends with a comment, the SHA-256 of all that stands above. One bit of a config may turn it into
another valid config: the seal makes that an error, as any change that is not meant.
"""

import csv
import errno
import hashlib
import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from cnnbench.storage.regular import Refused, read_regular
from cnnbench.storage.text import from_csv, printable_lines, shown_name

LARGEST_JSON = 64 * 2**20
LARGEST_YAML = 2 * 2**20  # a sweep of ten thousand jobs
LARGEST_CSV = 32 * 2**20
LARGEST_ARRAYS = 2**30  # bytes of all arrays of an npz file together
MOST_ARRAYS = 100
DEEPEST = 100  # levels of YAML: a config has three
SEAL = "# sha256: "


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a file of a run folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no regular file, or has more than `largest` bytes.
    """
    try:
        return read_regular(path, largest, follow_links=False)
    except Refused as error:
        if not path.is_symlink() and not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        raise ValueError(f"{shown_name(path)} cannot be read: {error}") from None


def damaged(path: Path, reason: object) -> NoReturn:
    """Say what is wrong with a file.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{shown_name(path)} is damaged: {printable_lines(str(reason))}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is not valid JSON; the message names the file.
    """
    content = read_bytes(path, LARGEST_JSON)
    try:
        return json.loads(content.decode())
    except RecursionError:
        damaged(path, "it is nested too deeply")
    except ValueError as error:
        damaged(path, error)


class _PlainLoader(yaml.SafeLoader):
    """YAML without tags, aliases (of which a few lines can make gigabytes) and depths."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not accepted: *{str(event.anchor)[:60]}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not accepted: {event.tag[:60]}")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


# A date is text here: safe_dump quotes text that looks like one.
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _whole_number(loader: _PlainLoader, node: Any) -> int:
    value = loader.construct_yaml_int(node)
    str(value)  # hexadecimal ones may have more digits than Python writes: a ValueError here, not later
    return value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that stands in two places twice."""
        return True


def _text(dumper: _PlainDumper, value: str) -> yaml.ScalarNode:
    # Other line ends than \n would be folded into a blank, except where they are escaped.
    style = '"' if any(end in value for end in "\r\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_PlainDumper.add_representer(str, _text)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML: mappings, lists, text, numbers, true, false and null.

    Raises:
        ValueError: it is not valid YAML, or has tags or aliases.
    """
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain data, sealed or not.

    Raises:
        ValueError: it is not valid YAML, or holds tags or aliases; the message names the file.
    """
    return _plain(path, read_bytes(path, LARGEST_YAML))


def _plain(path: Path, content: bytes) -> Any:
    try:
        return parse_yaml(content.decode())
    except ValueError as error:
        damaged(path, error)


def sealed_yaml(value: Any) -> bytes:
    """YAML in the order given, with its seal."""
    text = yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True).encode()
    return text + _seal(text)


def read_sealed_yaml(path: Path) -> Any:
    """Read a YAML file that `sealed_yaml` made.

    Raises:
        ValueError: it has changed since, is not valid YAML, or holds tags or aliases; the message names the file.
    """
    content = read_bytes(path, LARGEST_YAML)
    start = content.rfind(SEAL.encode())
    text = content if start < 0 else content[:start]
    seal = _seal(text).decode().strip()
    if content[len(text) :] != _seal(text):
        damaged(
            path,
            "its last line is not the SHA-256 of the lines above, so it has changed since it was written. "
            f"If that is as you want it, make the last line {seal!r}",
        )
    return _plain(path, text)


def _seal(text: bytes) -> bytes:
    return f"{SEAL}{hashlib.sha256(text).hexdigest()}\n".encode()


def read_cells(path: Path) -> list[list[str]]:
    """The rows of a CSV file, each a list of its cells, as they were before `text.for_csv`.

    Raises:
        ValueError: it is no CSV file in UTF-8; the message names the file.
    """
    return _cells(read_bytes(path, LARGEST_CSV), path)


def _cells(content: bytes, path: Path) -> list[list[str]]:
    try:
        text = io.StringIO(content.decode(), newline="")
        return [[from_csv(cell) for cell in row] for row in csv.reader(text)]
    except (csv.Error, UnicodeDecodeError) as error:
        damaged(path, error)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each a dict by column; a row that is too short has fewer.

    Raises:
        ValueError: it is no CSV file in UTF-8, or a row has more cells than the first; the message names the file.
    """
    return csv_rows(read_bytes(path, LARGEST_CSV), path)


def csv_rows(content: bytes, path: Path) -> list[dict[str, str]]:
    """The same of a file's content.

    Raises:
        ValueError: as `read_csv`.
    """
    header, *rows = [row for row in _cells(content, path) if row] or [[]]
    if any(len(row) > len(header) for row in rows):
        damaged(path, "a row has more cells than the header")
    return [dict(zip(header, row, strict=False)) for row in rows]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file.

    Raises:
        ValueError: it is none, an array would need pickle, or they are larger together than `LARGEST_ARRAYS`; the
            message names the file.
    """
    content = read_bytes(path, LARGEST_ARRAYS)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return dict(_arrays(archive))
    # What zipfile, zlib and numpy's header may raise of damaged bytes.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError, SyntaxError) as error:
        damaged(path, error)
    except (ValueError, LookupError, TypeError, ArithmeticError, tokenize.TokenError, struct.error) as error:
        damaged(path, error)


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, np.ndarray]]:
    members = archive.infolist()
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"it has {len(members)} arrays: accepted are up to {MOST_ARRAYS}")
    if (size := sum(member.file_size for member in members)) > LARGEST_ARRAYS:
        raise ValueError(f"its arrays have {size:,} bytes: accepted are up to {LARGEST_ARRAYS:,}")
    for member in members:
        with archive.open(member) as file:
            # What the header says is compared with the size before anything is allocated by it.
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read_header:
                raise ValueError(f"{member.filename} is of version {version}: accepted are 1.0 and 2.0")
            shape, fortran, kind = read_header[version](file)
            if kind.hasobject or kind.names:
                raise ValueError(f"{member.filename} holds objects, which only pickle could read (allow_pickle)")
            count = math.prod(shape)
            if min(shape, default=0) < 0 or count * kind.itemsize != member.file_size - file.tell():
                raise ValueError(f"{member.filename} does not have the size that its header says")
            values = np.frombuffer(bytearray(file.read()), kind, count)
            yield member.filename.removesuffix(".npy"), values.reshape(shape, order="F" if fortran else "C")


def check_kinds(path: Path, values: Any, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A file's mapping, if the values of known keys are of the kinds expected; other keys may hold anything.

    Args:
        kinds: a type or several, by key; a key that is absent is not looked at.

    Raises:
        ValueError: it is no mapping, or a value is of another type; the message names file, key and value.
    """
    if not isinstance(values, dict):
        damaged(path, "it holds no keys")
    for key, kind in kinds.items():
        value = values.get(key)
        accepted = kind if isinstance(kind, tuple) else (kind,)
        is_truth = isinstance(value, bool) and bool not in accepted  # to Python, true is a whole number
        if key in values and (not isinstance(value, kind) or is_truth):
            names = " or ".join("null" if one is type(None) else one.__name__ for one in accepted)
            damaged(path, f"{key}={str(value)[:60]!r}, expected {names}")
    return values
