"""The finished epochs of a run: one row each in `metrics.csv`, and the totals that the run itself needs.

A checkpoint holds the last row, and the length and SHA-256 of the file including it. That is enough to detect changes
to the file, and to add the row if the run was killed before it wrote it.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from cnnbench.metrics import find_metric
from cnnbench.runs.folder import RunFolder, parse_metrics
from cnnbench.storage.atomic import append, write_bytes
from cnnbench.storage.csv_tables import format_csv

log = logging.getLogger("cnnbench")


class History:
    """The finished epochs of a run.

    Args:
        monitor: what chooses the best epoch.

    Attributes:
        rows: of the epochs, as in `metrics.csv`.
        epochs: how many there are.
        best: the first epoch with the best monitor, or without a validation split the last one; counted from 1.
        seconds: spent in training passes.
    """

    def __init__(self, run: RunFolder, monitor: str) -> None:
        self.run, self.monitor = run, monitor
        self._higher_is_better = find_metric(monitor).higher_is_better
        self.rows: list[dict[str, Any]] = []  # for display only: a damaged file may have lost some
        self.epochs, self.seconds = 0, 0.0
        self.best, self.best_value = 0, None
        self._unwritten, self._size, self._digest = b"", 0, hashlib.sha256()

    def add(self, row: dict[str, Any]) -> None:
        """Count an epoch that has ended; `write` puts it into the file."""
        self.epochs += 1
        self.seconds += row["seconds"]
        value, known = row[self.monitor], self.best_value
        if value is None or known is None or (value > known if self._higher_is_better else value < known):
            self.best, self.best_value = self.epochs, value
        self.rows.append(row)
        if len(self.rows) > 1 and self.rows[-2].keys() == row.keys():
            text = format_csv([row], header=False)
        else:  # the first row, or one with other metrics than those before
            text, self._size, self._digest = format_csv(self.rows), 0, hashlib.sha256()
        self._unwritten = text.encode()
        self._size += len(self._unwritten)
        self._digest.update(self._unwritten)

    def write(self) -> None:
        """Write the last epoch's row, or what `restore` repaired, to `metrics.csv`; calling it twice is safe."""
        # Appended, so that the cost of an epoch does not grow with the number of earlier ones.
        if self._size > len(self._unwritten) > 0:
            append(self.run.metrics_file, self._unwritten)
        elif self._unwritten:
            write_bytes(self.run.metrics_file, self._unwritten)
        self._unwritten = b""

    def record(self) -> dict[str, Any]:
        """The state to store in a checkpoint."""
        return {
            "epoch": self.epochs,
            "train_seconds": self.seconds,
            "best": [self.best, self.best_value],
            "row": self.rows[-1] if self.rows else None,
            "metrics": [self._size, self._digest.hexdigest()],
        }

    def restore(self, record: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint was written; `write` then puts `metrics.csv` there too.

        A damaged or missing file does not stop the run: it logs an error and keeps the readable rows.
        """
        self.epochs, self.seconds = record["epoch"], record["train_seconds"]
        self.best, self.best_value = record["best"]
        if not self.epochs:
            return
        row, (size, digest) = record["row"], record["metrics"]
        try:
            found = self.run.read_metrics_file()
        except (OSError, ValueError):
            found = b""
        # The checkpoint is the reference. The file may lack its last row, or have rows of epochs that came after it.
        last = format_csv([row], header=False).encode()
        content = found[: size - len(last)] + last
        if hashlib.sha256(content).hexdigest() != digest:
            # A spreadsheet may have saved the same rows in another form: written anew, they have the right hash.
            content = format_csv([*self._read_intact_rows(found), row]).encode()
            if hashlib.sha256(content).hexdigest() != digest:
                log.error(
                    "%s was changed or damaged since this run wrote it: its readable rows are kept, but may be wrong",
                    self.run.metrics_file,
                )
        self.rows = parse_metrics(content, self.run.metrics_file)
        self._size, self._digest = len(content), hashlib.sha256(content)
        self._unwritten = content if content != found else b""

    def _read_intact_rows(self, content: bytes) -> list[dict[str, Any]]:
        """The rows of a damaged file that clearly belong to epochs before the last."""
        try:
            rows = parse_metrics(content, self.run.metrics_file)
        except ValueError:
            return []
        before = range(1, self.epochs)
        return [row for row in rows if isinstance(row.get("epoch"), int) and row["epoch"] in before]
