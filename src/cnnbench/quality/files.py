"""The files of a check: `check.json` with everything, and for each kind of finding a list that `data.exclude` takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding, ImageName, iterate_excluded
from cnnbench.registry import describe_unknown
from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.regular import refuse_damaged

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
        refuse_damaged(path, ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))
    for kind, finding in check.findings.items():
        if kind not in KINDS:
            refuse_damaged(path, describe_unknown("finding", kind[:60], KINDS))
        if any(not 0 <= place < len(case.images) for case in finding.cases for place in case.excluded):
            refuse_damaged(path, f"{kind}: a case excludes an image that it does not have")
    return check
