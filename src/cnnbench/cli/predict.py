"""`cnnbench predict`: classes and probabilities of image files, as lines for a reader, as CSV, or as JSON."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from rich.cells import cell_len

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.inputs import image_files
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.streams import discard_if_reader_gone
from cnnbench.data.polarity import LIGHT_ON_DARK
from cnnbench.experiment.predict import Prediction, Predictor
from cnnbench.registry import unknown
from cnnbench.storage import atomic
from cnnbench.storage.csv_tables import format_csv_row
from cnnbench.storage.text import format_path, format_percent

COLUMNS = ("class", "probability")
SHOWN_ENDINGS = 5  # of files that were left out


class Table:
    """A line for each image, the file last: its width is the only one that is not known beforehand."""

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        self.names = [format_path(name) for name in class_names]
        self.width = max(map(cell_len, (*self.names, COLUMNS[0])))
        self.head = f"{COLUMNS[0]}{' ' * (self.width - 5)}  {COLUMNS[1]}  " * top + "file\n"
        self.foot = ""

    def row(self, prediction: Prediction) -> str:
        """Nothing for a file with an error: its line is on standard error."""
        if prediction.error is not None:
            return ""
        cells = []
        for number, share in zip(prediction.classes, prediction.probabilities, strict=True):
            name = self.names[number]
            cells.append(f"{name}{' ' * (self.width - cell_len(name))}  {format_percent(share):>11}  ")
        return f"{''.join(cells)}{format_path(prediction.file)}\n"


class Csv:
    """A row for each file. A name that a spreadsheet would take for a formula gets an apostrophe in front."""

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        self.text: Callable[[str], str] = _text
        self.names = [_text(name) for name in class_names]
        self.top = top
        numbered = [name if place == 1 else f"{name}_{place}" for place in range(1, top + 1) for name in COLUMNS]
        self.head = format_csv_row(["file", *numbered, "error"])
        self.foot = ""

    def row(self, prediction: Prediction) -> str:
        """Probabilities in full: read as a float32, they are the model's to the bit."""
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells = [cell for number, share in pairs for cell in (self.names[number], share)] or [""] * (2 * self.top)
        return format_csv_row([self.text(prediction.file), *cells, self.text(prediction.error or "")])

    def show(self) -> None:
        """From now on a terminal is written to, not a program: as `ls` does it, names are printable there."""
        self.text = format_path
        self.names = [format_path(name) for name in self.names]


class Json:
    """One array with an object for each file, on a line of its own; pure ASCII."""

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        self.names = [_text(name) for name in class_names]
        self.head, self.foot = "[", "\n]\n"
        self.between = "\n"

    def row(self, prediction: Prediction) -> str:
        """`predictions`, the likeliest first, or `error`."""
        value: dict[str, object] = {"file": _text(prediction.file)}
        if prediction.error is None:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            value["predictions"] = [{"class": self.names[number], "probability": share} for number, share in pairs]
        else:
            value["error"] = prediction.error
        between, self.between = self.between, ",\n"
        return between + json.dumps(value)


Rows = Table | Csv | Json
FORMATS: dict[str, type[Rows]] = {"table": Table, "csv": Csv, "json": Json}


class Tally:
    """What is told at the end: files that failed, and images that look reversed."""

    def __init__(self) -> None:
        self.good = self.failed = self.reversed = 0
        self.left_out: Counter[str] = Counter()
        self.first_reversed = ""

    def failure(self, file: str, reason: str) -> None:
        """Say at once what is wrong with a file."""
        self.failed += 1
        print(f"error: {format_path(file)}: {reason}", file=sys.stderr)

    def leave_out(self, file: str) -> None:
        """Count a file that lies in a folder and is no image, by its ending."""
        self.left_out[format_path(os.path.splitext(file)[1].lower()) or "without ending"] += 1

    def add(self, prediction: Prediction) -> None:
        """Count a prediction."""
        if prediction.error is not None:
            self.failure(prediction.file, prediction.error)
            return
        self.good += 1
        if prediction.is_reversed:
            self.first_reversed = self.first_reversed or prediction.file
            self.reversed += 1

    def warn(self, polarity: str | None, *, invert: bool) -> None:
        """Say how many images look reversed, if any."""
        if not self.reversed:
            return
        light, dark = "light on dark", "dark on light"
        trained, found = (light, dark) if polarity == LIGHT_ON_DARK else (dark, light)
        remedy = "without --invert they would not be" if invert else "--invert inverts them"
        print(
            f"warning: {self.reversed} of {self.good} images are {found}, and the run was trained on {trained}: "
            f"{remedy}. The first is {format_path(self.first_reversed)}",
            file=sys.stderr,
        )

    def close(self) -> None:
        """The end; says how many files were left out.

        Raises:
            RunFailed: some files could not be read.
            ValueError: there were none.
        """
        if self.left_out:
            several = ", ".join(f"{count} {ending}" for ending, count in self.left_out.most_common(SHOWN_ENDINGS))
            total = self.left_out.total()
            print(f"left out {total} file{'s' * (total > 1)} of no image: {several}", file=sys.stderr)
        if self.failed:
            raise RunFailed(f"{self.failed} could not be read, {self.good} were predicted")
        if not self.good:
            raise ValueError("no images: the folders or the list named hold none")


def predict(
    run: Path,
    paths: Sequence[str],
    *,
    top: int,
    form: str,
    out: Path | None,
    batch_size: int | None,
    device: str | None,
    invert: bool,
    null: bool,
) -> None:
    """Predict and print, or write; errors of single files go to standard error.

    Raises:
        ValueError: the command is wrong; nothing has been printed or written.
        RunFailed: some files could not be read; the others have been predicted.
    """
    if form not in FORMATS:
        raise ValueError(unknown("format", form, FORMATS))
    if out is not None and ((out.exists() and not out.is_file()) or not out.parent.is_dir()):
        raise ValueError(f"--out {out}: accepted is a file, new or to be replaced, in a folder that is there")
    tally = Tally()
    files = image_files(paths, null=null, complain=tally.failure, leave_out=tally.leave_out)
    if out is not None:
        # A second run over a folder that the first has written to.
        own = os.path.abspath(out)
        files = (file for file in files if not file.endswith(out.name) or os.path.abspath(file) != own)
    first = next(files, None)
    if first is None:
        tally.close()
        return
    predictor = Predictor(find_folder(run, run=True), device=device, batch_size=batch_size)
    batches = predictor.predict(chain([first], files), top=top, invert=invert)
    rows = FORMATS[form](predictor.class_names, top)
    if isinstance(rows, Csv) and out is None and sys.stdout.isatty():
        rows.show()
    with closing(batches), _opened(out) as file:
        try:
            write(file, rows, batches, tally.add)
        except OSError as error:
            if out is not None:
                raise
            discard_if_reader_gone(error, sys.stdout.fileno())
            tally.good = max(tally.good, 1)  # who read has seen enough
    tally.warn(predictor.polarity, invert=invert)
    tally.close()


def write(file: BinaryIO, rows: Rows, batches: Iterable[list[Prediction]], tell: Callable[[Prediction], None]) -> None:
    """Write what each batch came to as soon as it is there, and tell of each prediction."""
    file.write(rows.head.encode())
    for batch in batches:
        file.write("".join(map(rows.row, batch)).encode())
        file.flush()
        for prediction in batch:
            tell(prediction)
    file.write(rows.foot.encode())
    file.flush()


@contextmanager
def _opened(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
    else:
        with atomic.write_atomically(out) as file:
            yield file


def _text(name: str) -> str:
    r"""A name as Unicode: a byte of a path that is not UTF-8, 0xff, is written \udcff, as Python shows it."""
    return name.encode("utf-8", "backslashreplace").decode()
