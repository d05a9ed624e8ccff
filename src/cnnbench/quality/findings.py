"""The findings of a check of a dataset, and their files; without torch."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cnnbench.storage.csv_tables import write_csv
from cnnbench.storage.plain_data import write_json

JSON_FILE = "check.json"
MOST_CASES = 20_000  # of a kind in the JSON file, to keep it readable; the lists have all


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its title, what it says about the data, and whether a case is about two images."""

    title: str
    meaning: str
    is_pair: bool = False


# In the order of tables and of the page, first what spoils a measurement.
KINDS = {
    "leak": Kind("Leaks", "The same pixels in two splits: figures on the later split are too good.", True),
    "near_leak": Kind("Near leaks", "Nearly the same image in two splits.", True),
    "conflict": Kind("Conflicts", "The same pixels with two labels: one of the labels is wrong.", True),
    "near_conflict": Kind("Near conflicts", "Nearly the same image with two labels.", True),
    "duplicate": Kind("Duplicates", "The same pixels twice in a split: they count twice.", True),
    "near_duplicate": Kind("Near duplicates", "Nearly the same image twice in a split.", True),
    "unreadable": Kind("Unreadable files", "Files that are not images, are damaged or are missing."),
    "constant": Kind("Constant images", "All pixels have one value."),
    "blank": Kind("Blank images", "Pixels hardly differ, as on an empty page."),
    "size": Kind("Unusual sizes", "Far fewer or far more pixels than nearly all other images."),
    "shape": Kind("Unusual shapes", "Far wider or far taller than nearly all other images."),
    "brightness": Kind("Unusual brightness", "Far darker or far brighter than nearly all other images."),
    "colour": Kind("Unusual colours", "Colours far from those of nearly all other images; grey among coloured ones."),
    "label": Kind("Label suspects", "Networks that have not seen the image take it for another class."),
    "small_class": Kind("Small classes", "A split has, or would get, no image of the class."),
}  # fmt: skip


class RefusedData(ValueError):
    """Data with leaks or contradictions, which `data.check=fail` refuses."""


@dataclass(frozen=True)
class ImageName:
    """Names one image."""

    split: str  # of the source: what a run cuts for validation belongs to `train`
    index: int  # in that split, from 0, unreadable files counted
    path: str | None = None  # of the file, below the dataset's folder; None without files
    label: str = ""  # the name of its class
    hash: str = ""  # of the file or, without one, of the values, in 16 hexadecimal digits; empty if unreadable

    def __str__(self) -> str:
        return self.path if self.path is not None else f"{self.split} {self.index}"


@dataclass(frozen=True)
class Case:
    """One occurrence of a finding."""

    images: tuple[ImageName, ...]  # two of a pair, first the one that stays; one suspect; none of a class
    excluded: tuple[int, ...]  # the places in `images` of those that the list for `data.exclude` names
    detail: str  # what was measured, in a few words
    label: str  # the class under which the page shows the case


@dataclass(frozen=True)
class Finding:
    """The cases of one kind, perhaps only the first ones, and the number of all."""

    count: int
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class DataCheck:
    """The result of a check."""

    data: str  # the dataset's name
    path: str | None  # the folder or file of one's own images
    key: str  # a SHA-256 of what was checked and how; if it is equal, another check would find the same
    splits: dict[str, int]  # the number of images in each, unreadable ones included
    class_names: tuple[str, ...]
    findings: dict[str, Finding] = field(default_factory=dict)  # by kind; kinds that do not apply are missing
    notes: tuple[str, ...] = ()  # what a reader of the findings must know

    def count(self, kind: str) -> int:
        """The number of cases of a kind."""
        return self.findings[kind].count if kind in self.findings else 0


def iterate_excluded(finding: Finding) -> Iterator[tuple[ImageName, Case]]:
    """Each image to leave out, with its case."""
    for case in finding.cases:
        for place in case.excluded:
            yield case.images[place], case


def write_check(folder: Path, check: DataCheck) -> None:
    """Write `check.json`, and for each kind with images to leave out a list that `data.exclude` takes.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        rows = [_make_row(image, case) for image, case in iterate_excluded(check.findings.get(kind, Finding(0)))]
        if rows:
            write_csv(folder / f"{kind}.csv", rows)
        else:  # perhaps there is one of an earlier check
            (folder / f"{kind}.csv").unlink(missing_ok=True)
    shown = {kind: replace(found, cases=found.cases[:MOST_CASES]) for kind, found in check.findings.items()}
    write_json(folder / JSON_FILE, asdict(replace(check, findings=shown)))


def _make_row(image: ImageName, case: Case) -> dict[str, object]:
    others = [asdict(one) for one in case.images if one != image]
    beside = {f"other_{column}": value for one in others for column, value in one.items() if column != "hash"}
    return asdict(image) | {"detail": case.detail} | beside
