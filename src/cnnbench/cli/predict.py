"""`cnnbench predict`: classes and probabilities of image files, as a table, CSV or JSON."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rich.cells import cell_len

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.heat_maps import HeatMapFolder, check_folder
from cnnbench.cli.inputs import find_images
from cnnbench.cli.options import PredictOptions
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.streams import discard_if_reader_gone, show_warnings
from cnnbench.data.polarity import LIGHT_ON_DARK
from cnnbench.experiment.predict import Prediction, Predictor
from cnnbench.metrics.conformal import PredictionSets
from cnnbench.registry import describe_unknown
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.csv_tables import format_csv_row
from cnnbench.storage.text import format_path, format_percent, to_unicode

COLUMNS = ("class", "probability")
UNKNOWN = "unknown"  # the set of an image that no class fits
MOST_ENDINGS = 5  # of skipped files, listed in a message


class Layout(NamedTuple):
    """A text format of predictions: `head`, a row for each file, `foot`."""

    head: str
    format_row: Callable[[Prediction], str]
    foot: str = ""


def lay_out_table(class_names: Sequence[str], top: int, sets: bool = False, terminal: bool = False) -> Layout:
    """A table for people. The file name comes last, because its width is unknown when the first row is printed.

    Args:
        sets: show the set of classes that fit, in front of the likeliest classes.
    """
    names = [format_path(name) for name in class_names]
    width = max(map(cell_len, (*names, COLUMNS[0])))
    set_width = max(width, len(UNKNOWN))  # enough for one class; a set of several moves the rest of its row

    def format_row(prediction: Prediction) -> str:
        if prediction.error is not None:  # already reported on standard error
            return ""
        cells = [
            f"{names[number]}{' ' * (width - cell_len(names[number]))}  {format_percent(share):>11}  "
            for number, share in zip(prediction.classes, prediction.probabilities, strict=True)
        ]
        if sets:
            fits = ", ".join(names[number] for number in prediction.fits) or UNKNOWN
            cells = [f"{fits}{' ' * (set_width - cell_len(fits))}  ", *cells]
        return f"{''.join(cells)}{format_path(prediction.file)}\n"

    head = f"{'set':<{set_width}}  " if sets else ""
    return Layout(head + f"{COLUMNS[0]}{' ' * (width - 5)}  {COLUMNS[1]}  " * top + "file\n", format_row)


def lay_out_csv(class_names: Sequence[str], top: int, sets: bool = False, terminal: bool = False) -> Layout:
    """CSV for programs. Names that a spreadsheet would take for a formula get an apostrophe in front.

    Parsed as float32, the probabilities equal the model's to the bit. On a terminal, names are escaped to be printable.
    The classes of a set are separated by `|`; its size tells a class that is called unknown from an empty set.
    """
    show = format_path if terminal else to_unicode
    names = [show(name) for name in class_names]

    def format_row(prediction: Prediction) -> str:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells = [cell for number, share in pairs for cell in (names[number], share)] or [""] * (2 * top)
        if sets and prediction.error is None:
            fits = "|".join(names[number] for number in prediction.fits) or UNKNOWN
            cells = [fits, len(prediction.fits), *cells]
        elif sets:
            cells = ["", "", *cells]
        return format_csv_row([show(prediction.file), *cells, show(prediction.error or "")])

    numbered = [name if place == 1 else f"{name}_{place}" for place in range(1, top + 1) for name in COLUMNS]
    return Layout(format_csv_row(["file", *(["set", "set_size"] if sets else []), *numbered, "error"]), format_row)


def lay_out_json(class_names: Sequence[str], top: int, sets: bool = False, terminal: bool = False) -> Layout:
    """A JSON array with an object for each file, each on its own line; pure ASCII."""
    names = [to_unicode(name) for name in class_names]
    separator = "\n"

    def format_row(prediction: Prediction) -> str:
        nonlocal separator
        value: dict[str, object] = {"file": to_unicode(prediction.file)}
        if prediction.error is None:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            value["predictions"] = [{"class": names[number], "probability": share} for number, share in pairs]
            if sets:
                value |= {"set": [names[number] for number in prediction.fits], UNKNOWN: not prediction.fits}
        else:
            value["error"] = prediction.error
        text, separator = separator + json.dumps(value), ",\n"
        return text

    return Layout("[", format_row, "\n]\n")


FORMATS = {"table": lay_out_table, "csv": lay_out_csv, "json": lay_out_json}


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

    def describe_inverted(self, polarity: str | None, *, invert: bool) -> list[str]:
        """A note on how many images look inverted, if any do.

        Args:
            polarity: the polarity of the training images.
            invert: whether `--invert` has inverted the images.
        """
        if not self.inverted:
            return []
        light, dark = "light on dark", "dark on light"
        trained, found = (light, dark) if polarity == LIGHT_ON_DARK else (dark, light)
        remedy = "leave out --invert" if invert else "--invert inverts them"
        return [
            f"{self.inverted} of {self.predicted} images are {found}, and the run was trained on {trained}: "
            f"{remedy}. The first is {format_path(self.first_inverted)}"
        ]

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
            raise RunFailed(f"{self.failed} files could not be read, {self.predicted} were predicted")
        if not self.predicted:
            raise ValueError("there are no images in the folders or in the list")


def predict(options: PredictOptions) -> None:
    """Print predictions, or write them to a file; errors of single files go to standard error.

    Raises:
        ValueError: the command is wrong; nothing has been printed or written.
        RunFailed: some files could not be read; the others have been predicted.
    """
    if options.form not in FORMATS:
        raise ValueError(describe_unknown("format", options.form, FORMATS))
    pictures = check_folder(options.out) if options.explain else None
    out = None if options.explain else options.out
    if out is not None and ((out.exists() and not out.is_file()) or not out.parent.is_dir()):
        raise ValueError(f"--out {out}: must be a file, new or to be replaced, in an existing folder")
    tally = Tally()
    files = find_images(options.paths, null=options.null, complain=tally.fail, leave_out=tally.skip)
    if out is not None:  # the output of an earlier command may lie in a folder that is read now
        own = os.path.abspath(out)
        files = (file for file in files if not file.endswith(out.name) or os.path.abspath(file) != own)
    if pictures is not None:  # the folder may lie in one that is read
        below = os.path.join(os.path.abspath(pictures), "")
        files = (file for file in files if not os.path.abspath(file).startswith(below))
    first = next(files, None)
    if first is None:
        tally.close()
        return
    run = find_folder(options.run, run=True)
    predictor = Predictor(run, device=options.device, batch_size=options.batch_size)
    show_warnings(predictor.notes)
    if found := predictor.temperature:
        known = f"temperature {found.value:g}, fitted on {found.images:,} validation images"
        print(f"probabilities are calibrated: {known}", file=sys.stderr)
    sets = None if options.abstain is None else _find_sets(run, options.abstain, predictor, options)
    batches = predictor.predict(
        chain([first], files), top=options.top, invert=options.invert, keep_pixels=options.explain, sets=sets
    )
    drawn = None if pictures is None else HeatMapFolder(pictures, predictor)
    terminal = out is None and sys.stdout.isatty()
    layout = FORMATS[options.form](predictor.class_names, options.top, sets is not None, terminal)
    with closing(batches), _open_output(out) as file:
        try:
            write(file, layout, drawn.follow(batches) if drawn else batches, tally.add)
        except OSError as error:
            if out is not None:
                raise
            discard_if_reader_gone(error, sys.stdout.fileno())
            # A reader such as `head` has seen enough. That is not an error, even before the first count.
            tally.predicted = max(tally.predicted, 1)
    if drawn:
        drawn.close()
    show_warnings(tally.describe_inverted(predictor.polarity, invert=options.invert))
    tally.close()


def _find_sets(run: Path, miss: float, predictor: Predictor, options: PredictOptions) -> PredictionSets:
    from cnnbench.experiment.prediction_sets import find_prediction_sets

    sets, notes = find_prediction_sets(
        run, miss, classes=len(predictor.class_names), device=options.device, batch_size=options.batch_size
    )
    show_warnings(note for note in notes if note not in predictor.notes)
    return sets


def write(
    file: BinaryIO, layout: Layout, batches: Iterable[list[Prediction]], count: Callable[[Prediction], None]
) -> None:
    """Write the predictions of each batch as soon as they are known, and count them."""
    file.write(layout.head.encode())
    for batch in batches:
        file.write("".join(map(layout.format_row, batch)).encode())
        file.flush()
        for prediction in batch:
            count(prediction)
    file.write(layout.foot.encode())
    file.flush()


@contextmanager
def _open_output(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
    else:
        with write_atomically(out) as file:
            yield file
