"""How `cnnbench predict` writes predictions: as a table, CSV or JSON."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from cnnbench.experiment.measuring.predictions import Prediction
from cnnbench.storage.csv_tables import format_csv_row
from cnnbench.storage.text import format_path, format_percent, to_unicode

COLUMNS = ("class", "probability")
UNKNOWN = "unknown"  # the set of an image that no class fits


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
    return Layout(head + f"{COLUMNS[0]:<{width}}  {COLUMNS[1]}  " * top + "file\n", format_row)


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
    separator = "\n"  # before the first object; JSON allows no comma after the last one

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
