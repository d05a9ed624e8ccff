"""`cnnbench predict`: classes and probabilities of image files, as a table, CSV or JSON."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.inputs import find_images
from cnnbench.cli.prediction_layouts import FORMATS, Layout
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import PredictOptions
from cnnbench.cli.streams import discard_if_reader_gone, show_warnings
from cnnbench.data.files.walking import Complain
from cnnbench.data.polarity import LIGHT_ON_DARK
from cnnbench.experiment.measuring.predictions import Prediction
from cnnbench.registry import check_choice
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.text import format_path

if TYPE_CHECKING:  # an exported network predicts without torch
    from cnnbench.cli.heat_maps import HeatMapFolder
    from cnnbench.experiment.measuring.predict import Predictor
    from cnnbench.exporting.predicting import OnnxPredictor
    from cnnbench.runs.calibration import Temperature

MOST_ENDINGS = 5  # of skipped files, listed in a message


def _print_failure(file: str, reason: str) -> None:
    print(f"error: {format_path(file)}: {reason}", file=sys.stderr)


class Tally:
    """Counts files that were predicted, failed or skipped, and images that look inverted.

    Args:
        report: is called at once for each file that cannot be read.
    """

    def __init__(self, report: Complain = _print_failure) -> None:
        self._report = report
        self.predicted = self.failed = self.inverted = 0
        self.skipped: Counter[str] = Counter()  # by ending
        self.first_inverted = ""

    def fail(self, file: str, reason: str) -> None:
        """Count and report a file that cannot be read."""
        self.failed += 1
        self._report(file, reason)

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
        """A note on how many images look inverted, if any do; `polarity` is that of the training images."""
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
            files = "1 file that is not an image" if total == 1 else f"{total} files that are not images"
            print(f"skipped {files}: {endings}", file=sys.stderr)
        if self.failed:
            raise RunFailed(
                f"{self.failed} file{'s' * (self.failed > 1)} could not be read, {self.predicted} were predicted"
            )
        if not self.predicted:
            raise ValueError("there are no images in the folders or in the list")


class Started(NamedTuple):
    """Predictions that have been started.

    Attributes:
        has_sets: whether they come with prediction sets.
        pictures: draws their heat maps, if they are wanted.
    """

    predictor: "Predictor | OnnxPredictor"
    batches: Generator[list[Prediction], None, None]
    has_sets: bool = False
    pictures: "HeatMapFolder | None" = None


def predict(options: PredictOptions) -> None:
    """Print predictions, or write them to a file; errors of single files go to standard error.

    Raises:
        ValueError: the command is wrong; nothing has been printed or written.
        RunFailed: some files could not be read; the others have been predicted.
    """
    form = check_choice("format", options.form, FORMATS)
    paths = _choose_paths(options)
    out = None if options.explain else options.out
    folder = _choose_folder(options)
    if out is not None and ((out.exists() and not out.is_file()) or not out.parent.is_dir()):
        raise ValueError(f"--out {out}: must be a file, new or to be replaced, in an existing folder")
    tally = Tally()
    files = find_images(paths, null=options.null, complain=tally.fail, leave_out=tally.skip)
    if options.out is not None:  # what an earlier command wrote may lie in a folder that is read
        own = os.path.join(os.path.abspath(options.out), "")
        files = (file for file in files if not os.path.join(os.path.abspath(file), "").startswith(own))
    first = next(files, None)  # before torch is imported, which takes seconds
    if first is None:
        tally.close()
        return
    files = chain([first], files)
    started = _start_run(options, files, folder) if options.model is None else _start_model(options, files)
    terminal = out is None and sys.stdout.isatty()
    layout = FORMATS[form](started.predictor.class_names, options.top, started.has_sets, terminal)
    pictures = started.pictures
    with closing(started.batches) as batches, _open_output(out) as file:
        try:
            write(file, layout, pictures.follow(batches) if pictures else batches, tally.add)
        except OSError as error:
            if out is not None:
                raise
            discard_if_reader_gone(error, sys.stdout.fileno())
            # A reader such as `head` has seen enough. That is not an error, even before the first count.
            tally.predicted = max(tally.predicted, 1)
    if pictures:
        pictures.close()
    show_warnings(tally.describe_inverted(started.predictor.polarity, invert=options.invert))
    tally.close()


def _choose_paths(options: PredictOptions) -> Sequence[str]:
    """The arguments that name images: with `--model`, all of them. A ValueError if an option needs a run."""
    given = [] if options.run is None else [options.run]
    paths = [*(given if options.model else []), *(options.paths or [])]
    if options.model is not None:
        needs_run = {"--abstain": options.abstain is not None, "--explain": options.explain, "--device": options.device}
        for name in (name for name, is_given in needs_run.items() if is_given):
            raise ValueError(f"{name} needs the run: leave out --model, and name the run in front of the images")
    elif not given:
        raise ValueError("name a run, or a file with --model, and images: cnnbench predict RUN PATH…")
    if not paths:
        raise ValueError("name images after the run or the file: files, folders, patterns, or - for standard input")
    return paths


def _choose_folder(options: PredictOptions) -> Path | None:
    """The folder for heat maps, if they are wanted."""
    if not options.explain:
        return None
    from cnnbench.cli.heat_maps import check_folder

    return check_folder(options.out)


def _start_model(options: PredictOptions, files: Iterable[str]) -> Started:
    from cnnbench.data.memory import limit_address_space
    from cnnbench.exporting.predicting import OnnxPredictor

    limit_address_space()  # the file may be a stranger's
    assert options.model is not None, "it chose this function"
    predictor = OnnxPredictor(options.model, batch_size=options.batch_size)
    _report_temperature(predictor.temperature)
    return Started(predictor, predictor.predict(files, top=options.top, invert=options.invert))


def _start_run(options: PredictOptions, files: Iterable[str], folder: Path | None) -> Started:
    from cnnbench.experiment.measuring.predict import Predictor

    assert options.run is not None, "it was checked"
    run = find_folder(options.run, run=True)
    how: dict[str, Any] = {"device": options.device, "batch_size": options.batch_size}
    predictor = Predictor(run, **how)
    show_warnings(predictor.notes)
    _report_temperature(predictor.temperature)
    sets = None
    if options.abstain is not None:
        from cnnbench.experiment.measuring.calibration import find_prediction_sets

        sets, notes = find_prediction_sets(run, options.abstain, classes=len(predictor.class_names), **how)
        show_warnings(note for note in notes if note not in predictor.notes)
    batches = predictor.predict(files, top=options.top, invert=options.invert, keep_pixels=options.explain, sets=sets)
    pictures = None
    if folder is not None:
        from cnnbench.cli.heat_maps import HeatMapFolder

        pictures = HeatMapFolder(folder, predictor)
    return Started(predictor, batches, sets is not None, pictures)


def _report_temperature(found: "Temperature | None") -> None:
    if found:
        known = f"temperature {found.value:g}, fitted on {found.images:,} validation images"
        print(f"probabilities are calibrated: {known}", file=sys.stderr)


def write(
    file: BinaryIO, layout: Layout, batches: Iterable[list[Prediction]], count: Callable[[Prediction], None]
) -> None:
    """Write the predictions of each batch at once, and count them."""
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
