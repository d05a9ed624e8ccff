"""`cnnbench predict`: classes and probabilities of image files, as a table, CSV or JSON."""

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
from cnnbench.cli.options import PredictOptions
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.streams import discard_if_reader_gone
from cnnbench.data.polarity import LIGHT_ON_DARK
from cnnbench.experiment.predict import Prediction, Predictor
from cnnbench.registry import unknown
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.csv_tables import format_csv_row
from cnnbench.storage.text import format_path, format_percent

COLUMNS = ("class", "probability")
MOST_ENDINGS = 5  # of skipped files, in a message


class Format:
    """How predictions are written: `head`, a row for each file, `foot`.

    Args:
        top: how many classes a row has.
        terminal: it is written to a terminal, where names must be printable; programs get them unchanged.
    """

    head = foot = ""

    def __init__(self, class_names: Sequence[str], top: int, *, terminal: bool = False) -> None:
        self.show: Callable[[str], str] = format_path if terminal else _to_unicode
        self.names = [self.show(name) for name in class_names]
        self.top = top

    def row(self, prediction: Prediction) -> str:
        """Format a prediction."""
        raise NotImplementedError


class Table(Format):
    """A line for each image, with the file last, because only its width is unknown beforehand."""

    def __init__(self, class_names: Sequence[str], top: int, *, terminal: bool = False) -> None:
        super().__init__(class_names, top, terminal=True)  # it is for people, even in a file
        self.width = max(map(cell_len, (*self.names, COLUMNS[0])))
        self.head = f"{COLUMNS[0]}{' ' * (self.width - 5)}  {COLUMNS[1]}  " * top + "file\n"

    def row(self, prediction: Prediction) -> str:
        """Format a prediction; a file with an error has its line on standard error instead."""
        if prediction.error is not None:
            return ""
        cells = []
        for number, share in zip(prediction.classes, prediction.probabilities, strict=True):
            name = self.names[number]
            cells.append(f"{name}{' ' * (self.width - cell_len(name))}  {format_percent(share):>11}  ")
        return f"{''.join(cells)}{self.show(prediction.file)}\n"


class Csv(Format):
    """A row for each file. Names that a spreadsheet would take for a formula get an apostrophe in front."""

    def __init__(self, class_names: Sequence[str], top: int, *, terminal: bool = False) -> None:
        super().__init__(class_names, top, terminal=terminal)
        numbered = [name if place == 1 else f"{name}_{place}" for place in range(1, top + 1) for name in COLUMNS]
        self.head = format_csv_row(["file", *numbered, "error"])

    def row(self, prediction: Prediction) -> str:
        """Format a prediction; read as float32, the probabilities are the model's to the bit."""
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells = [cell for number, share in pairs for cell in (self.names[number], share)] or [""] * (2 * self.top)
        return format_csv_row([self.show(prediction.file), *cells, self.show(prediction.error or "")])


class Json(Format):
    """An array with an object for each file, on a line of its own; pure ASCII."""

    head, foot = "[", "\n]\n"

    def __init__(self, class_names: Sequence[str], top: int, *, terminal: bool = False) -> None:
        super().__init__(class_names, top)
        self.separator = "\n"

    def row(self, prediction: Prediction) -> str:
        """Format a prediction: `predictions`, the likeliest first, or `error`."""
        value: dict[str, object] = {"file": self.show(prediction.file)}
        if prediction.error is None:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            value["predictions"] = [{"class": self.names[number], "probability": share} for number, share in pairs]
        else:
            value["error"] = prediction.error
        separator, self.separator = self.separator, ",\n"
        return separator + json.dumps(value)


FORMATS: dict[str, type[Format]] = {"table": Table, "csv": Csv, "json": Json}


class Tally:
    """Counts files that were predicted, failed or skipped, and images that look inverted."""

    def __init__(self) -> None:
        self.predicted = self.failed = self.inverted = 0
        self.skipped: Counter[str] = Counter()  # by ending
        self.first_inverted = ""

    def fail(self, file: str, reason: str) -> None:
        """Count a file that cannot be read, and print why at once."""
        self.failed += 1
        print(f"error: {format_path(file)}: {reason}", file=sys.stderr)

    def skip(self, file: str) -> None:
        """Count a file in a folder that is not an image."""
        self.skipped[format_path(os.path.splitext(file)[1].lower()) or "without ending"] += 1

    def add(self, prediction: Prediction) -> None:
        """Count a prediction."""
        if prediction.error is not None:
            self.fail(prediction.file, prediction.error)
            return
        self.predicted += 1
        if prediction.is_reversed:
            self.first_inverted = self.first_inverted or prediction.file
            self.inverted += 1

    def warn_of_inverted(self, polarity: str | None, *, invert: bool) -> None:
        """Print how many images look inverted, if any do.

        Args:
            polarity: of the training images.
            invert: the images have been inverted by `--invert`.
        """
        if not self.inverted:
            return
        light, dark = "light on dark", "dark on light"
        trained, found = (light, dark) if polarity == LIGHT_ON_DARK else (dark, light)
        remedy = "without --invert they would not be" if invert else "--invert inverts them"
        print(
            f"warning: {self.inverted} of {self.predicted} images are {found}, and the run was trained on {trained}: "
            f"{remedy}. The first is {format_path(self.first_inverted)}",
            file=sys.stderr,
        )

    def close(self) -> None:
        """Print how many files were skipped.

        Raises:
            RunFailed: some files could not be read.
            ValueError: there were no images.
        """
        if self.skipped:
            endings = ", ".join(f"{count} {ending}" for ending, count in self.skipped.most_common(MOST_ENDINGS))
            total = self.skipped.total()
            print(f"skipped {total} file{'s' * (total > 1)} that are not images: {endings}", file=sys.stderr)
        if self.failed:
            raise RunFailed(f"{self.failed} could not be read, {self.predicted} were predicted")
        if not self.predicted:
            raise ValueError("there are no images in the folders or in the list")


def predict(options: PredictOptions) -> None:
    """Predict and print, or write; errors of single files go to standard error.

    Raises:
        ValueError: the command is wrong; nothing has been printed or written.
        RunFailed: some files could not be read; the others have been predicted.
    """
    out = options.out
    if options.form not in FORMATS:
        raise ValueError(unknown("format", options.form, FORMATS))
    if out is not None and ((out.exists() and not out.is_file()) or not out.parent.is_dir()):
        raise ValueError(f"--out {out}: accepted is a file, new or to be replaced, in an existing folder")
    tally = Tally()
    files = image_files(options.paths, null=options.null, complain=tally.fail, leave_out=tally.skip)
    if out is not None:  # an earlier command may have written into a folder that is read now
        own = os.path.abspath(out)
        files = (file for file in files if not file.endswith(out.name) or os.path.abspath(file) != own)
    first = next(files, None)
    if first is None:
        tally.close()
        return
    run = find_folder(options.run, run=True)
    predictor = Predictor(run, device=options.device, batch_size=options.batch_size)
    batches = predictor.predict(chain([first], files), top=options.top, invert=options.invert)
    terminal = out is None and sys.stdout.isatty()
    rows = FORMATS[options.form](predictor.class_names, options.top, terminal=terminal)
    with closing(batches), _open_output(out) as file:
        try:
            write(file, rows, batches, tally.add)
        except OSError as error:
            if out is not None:
                raise
            discard_if_reader_gone(error, sys.stdout.fileno())
            tally.predicted = max(tally.predicted, 1)  # the reader has seen enough: not an error
    tally.warn_of_inverted(predictor.polarity, invert=options.invert)
    tally.close()


def write(
    file: BinaryIO, rows: Format, batches: Iterable[list[Prediction]], count: Callable[[Prediction], None]
) -> None:
    """Write the predictions of each batch as soon as they are there, and count them."""
    file.write(rows.head.encode())
    for batch in batches:
        file.write("".join(map(rows.row, batch)).encode())
        file.flush()
        for prediction in batch:
            count(prediction)
    file.write(rows.foot.encode())
    file.flush()


@contextmanager
def _open_output(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
    else:
        with write_atomically(out) as file:
            yield file


def _to_unicode(name: str) -> str:
    r"""Return a name as Unicode; the byte 0xff of a path that is not UTF-8 becomes \udcff, as Python shows it."""
    return name.encode("utf-8", "backslashreplace").decode()
