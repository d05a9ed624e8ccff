"""How the files of a run are written: JSON, sealed YAML, CSV and npz, each as one step."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.storage.atomic import replacing
from cnnbench.storage.reading import sealed_yaml
from cnnbench.storage.text import for_csv


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file as one step."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Like `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON; a number that is not finite becomes null, which every reader understands."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write YAML in the order given, sealed: its last line is the SHA-256 of those above."""
    write_bytes(path, sealed_yaml(value))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under a header of every key, in the order of first appearance."""
    write_text(path, csv_text(rows))


def csv_text(rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    """Rows as they are written, with their header or without it."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines: list[list[Any]] = [keys] if header else []
    lines += [[row.get(key) for key in keys] for row in rows]
    return "".join(map(csv_line, lines))


def csv_line(cells: Iterable[Any]) -> str:
    """A row of a CSV file, ended by a line feed; None is an empty cell, and no text is a spreadsheet's formula."""
    line = io.StringIO(newline="")
    # With its own line end, Python 3.11's writer would leave a carriage return inside a cell unquoted.
    csv.writer(line, lineterminator="\r\n").writerow(map(for_csv, cells))
    return line.getvalue().removesuffix("\r\n") + "\n"


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays, compressed; arrays of Python objects are refused, for reading them would need pickle."""
    content = io.BytesIO()
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r} holds Python objects")
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
