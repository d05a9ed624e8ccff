"""The files of a check: `check.json` with everything, and for each kind of finding a list that `data.exclude` takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding, ImageName, iterate_excluded
from cnnbench.registry import describe_unknown, find_nearest
from cnnbench.storage.csv_tables import read_csv, write_csv
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.regular import refuse_damaged
from cnnbench.storage.text import format_path

JSON_FILE = "check.json"
MOST_CASES = 20_000  # of a kind in the JSON file, so that it stays small enough to read; the lists have all
COLUMNS = ("split", "index", "path", "label", "hash")
_CHECK = TypeAdapter(DataCheck)


def write_check(folder: Path, check: DataCheck) -> None:
    """Write `check.json` and a list for each kind that has images to leave out; lists of an earlier check go.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        rows = [_make_row(image, case) for image, case in iterate_excluded(check.findings.get(kind, Finding(0)))]
        if rows:
            write_csv(folder / f"{kind}.csv", rows)
        else:
            (folder / f"{kind}.csv").unlink(missing_ok=True)
    shown = {kind: replace(found, cases=found.cases[:MOST_CASES]) for kind, found in check.findings.items()}
    write_json(folder / JSON_FILE, _CHECK.dump_python(replace(check, findings=shown)))


def _make_row(image: ImageName, case: Case) -> dict[str, Any]:
    others = [one for one in case.images if one != image]
    row = {column: getattr(image, column) for column in COLUMNS} | {"detail": case.detail}
    return row | {f"other_{column}": getattr(one, column) for one in others for column in COLUMNS[:4]}


def read_check(folder: Path) -> DataCheck:
    """The check that `write_check` wrote to a folder.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    path = folder / JSON_FILE
    try:
        check = _CHECK.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        refuse_damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    for kind, finding in check.findings.items():
        if kind not in KINDS:
            refuse_damaged(path, describe_unknown("finding", kind[:60], KINDS))
        if any(not 0 <= place < len(case.images) for case in finding.cases for place in case.excluded):
            refuse_damaged(path, f"{kind}: a case excludes an image that it does not have")
    return check


def read_image_list(path: Path) -> list[ImageName]:
    """The images that a CSV file names: the columns `split` and `index`, or `path`; others may be there.

    Raises:
        ValueError: not such a file; the message names the row and what it needs.
        OSError: it cannot be read.
    """
    names = []
    rows = read_csv(path)
    columns = [*rows[0]] if rows else []
    if "path" not in columns and not {"split", "index"} <= {*columns}:
        near = find_nearest(columns[0], COLUMNS) if columns else None
        hint = f"; did you mean {near!r} by {columns[0][:40]!r}?" if near and near not in columns else ""
        raise ValueError(f"{format_path(path)} has no column 'path', and not both 'split' and 'index'{hint}")
    for line, row in enumerate(rows, 2):
        index, file = row.get("index", "").strip(), row.get("path") or None
        # A number of more digits may be one that Python refuses to convert.
        is_counted = row.get("split", "").strip() and index.isdecimal() and len(index) <= 15
        if not file and not is_counted:
            raise ValueError(f"{format_path(path)}, row {line}: needs a path, or a split and an index from 0")
        split, label, digest = (row.get(column, "").strip() for column in ("split", "label", "hash"))
        names.append(ImageName(split, int(index) if is_counted else -1, file, label, digest))
    return names
