"""The files of a check: `check.json` with everything, and for each kind of finding a list that `data.exclude` takes."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cnnbench.quality.findings import KINDS, Case, DataCheck, Finding, ImageName, iterate_excluded
from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import write_json

JSON_FILE = "check.json"
MOST_CASES = 20_000  # of a kind in the JSON file, to keep it readable; the lists have all
COLUMNS = ("split", "index", "path", "label", "hash")


def write_check(folder: Path, check: DataCheck) -> None:
    """Write `check.json`, and a list for each kind with images to leave out; lists of an earlier check go.

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
    write_json(folder / JSON_FILE, asdict(replace(check, findings=shown)))


def _make_row(image: ImageName, case: Case) -> dict[str, Any]:
    others = [one for one in case.images if one != image]
    row = {column: getattr(image, column) for column in COLUMNS} | {"detail": case.detail}
    return row | {f"other_{column}": getattr(one, column) for one in others for column in COLUMNS[:4]}
